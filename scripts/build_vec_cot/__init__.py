"""VEC-CoT's recipe: labelled images in, the training files of the three stages out.

    python -m scripts.build_vec_cot --toy 12      all of it, on a small toy world

Each step is a command with a folder of its own that can be looked into; started again after any
interruption, it does only what is missing.

    records ── split ──▶ stage1/2/3_records.jsonl         images apart, the test set's left out
                 │
                 ▼ stages 1, 2
           write_reasoning ──▶ reasoning.jsonl            a teacher's five sections, verified
                 │
                 ▼ stage 2
             confidence ──▶ confidence.jsonl              how often the scaffold answers the label
                 │
                 ▼
              assemble ──▶ stage1.jsonl, stage2_w_conf.jsonl, stage3.jsonl
               report  ──▶ report.txt, report.json, report.png

``python -m scripts.build_vec_cot --help`` shows the command for real data. The split comes before
the teacher, so that no call is spent on an image that is left out, nor on stage 3, whose rows have no
reasoning to imitate. Rows that the checks reject later are not replaced: the report shows what each
stage has after them, beside the split and the published proportions. To extend an existing VEC-CoT,
give its stage files' records as part of --test_path: their images are then kept out of the new part.
"""
