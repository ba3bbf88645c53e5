"""Other people's data: a CSV file and images become records and training files, and nothing is lost."""

import pytest

from inference.data.records import read_records
from scripts.data.from_csv import main
from tests.helpers.commands import read_jsonl
from tests.helpers.labelled_images import labelled_images


def from_csv(*arguments):
    """The exit status of scripts.data.from_csv, run in this process."""
    return main([str(argument) for argument in arguments])


@pytest.fixture
def folder(tmp_path):
    return labelled_images(tmp_path / "my images")


def test_the_split_takes_the_same_share_of_each_label_and_repeats(folder, tmp_path):
    for name in ("a", "b"):
        assert from_csv(folder / "labels.csv", "--output_dir", tmp_path / name, "--test_share", "0.3") == 0
    first, second = (read_jsonl(tmp_path / name / "test.jsonl") for name in "ab")
    assert first == second
    assert sorted(row["ground_truth"] for row in first) == ["Fear"] * 3 + ["joy"] * 3
    train = read_jsonl(tmp_path / "a" / "train.jsonl")
    assert len(train) == 14 and not [row for row in train if row in first]


def images_of(path):
    return [record.image for record in read_records(path)]


def test_all_rows_of_an_image_are_in_one_part_of_the_split(folder, tmp_path, capsys):
    """Of two tasks, and of a table with a row for each person: a model is not tested on images that it was shown."""
    tables = {"tasks": [("A", "joy"), ("B", "good")], "people": [("A", "joy"), ("A", "fear")]}
    for name, of_image in tables.items():
        rows = (f"a/{i}.png,{label},{task}\n" for task, label in of_image for i in range(10))
        (folder / f"{name}.csv").write_text("path,label,task\n" + "".join(rows))
        assert from_csv(folder / f"{name}.csv", "--output_dir", tmp_path / name, "--test_share", "0.3") == 0
        test, train = (images_of(tmp_path / name / f"{part}.jsonl") for part in ("test", "train"))
        assert (len(test), len(train)) == (6, 14) and not set(test) & set(train)
    (note,) = [line for line in capsys.readouterr().out.splitlines() if "more than one row" in line]
    assert note.startswith("NOTE: task A has 10 images in more than one row, 10 of them with different labels")


def test_a_column_that_the_header_names_twice_is_one_line(folder, tmp_path, capsys):
    (folder / "twice.csv").write_text("path,Label,label\na/1.png,joy,fear\n")
    with pytest.raises(SystemExit, match="2"):
        from_csv(folder / "twice.csv", "--output_dir", tmp_path)
    expected = f"{folder / 'twice.csv'}, line 1: expected one column label, got 2: path,Label,label\n"
    assert capsys.readouterr().err == expected


def test_bad_rows_are_kept_with_file_line_and_field(folder, tmp_path, capsys):
    source = folder / "bad.csv"
    source.write_text("path,label,task\na/1.png,joy,T\nnowhere.png,joy,T\na/2.png,,T\n,joy,T\na/3.png,joy,T,extra\n")
    assert from_csv(source, "--output_dir", tmp_path / "out") == 1
    assert "read 5 = written 1 + failed 4" in capsys.readouterr().out
    errors = [row["error"] for row in read_jsonl(tmp_path / "out" / "errors.jsonl")]
    for line, field, error in zip((3, 4, 5, 6), ("path", "label", "path", "(line)"), errors, strict=True):
        assert f"bad.csv, line {line}, field '{field}': expected" in error


def test_a_label_outside_those_given_is_an_error_row(folder, tmp_path, capsys):
    assert from_csv(folder / "labels.csv", "--output_dir", tmp_path, "--labels", "joy", "awe") == 1
    assert "read 20 = written 10 + failed 10" in capsys.readouterr().out
    assert read_jsonl(tmp_path / "records.jsonl")[0]["candidates"] == ["joy", "awe"]


@pytest.mark.parametrize(
    "table",
    [
        "path;label\na/1.png;joy\na/2.png;fear\n",
        "path\tlabel\na/1.png\tjoy\na/2.png\tfear\n",
        "sep=;\r\nPath;Label\r\na/1.png;joy\r\na/2.png;fear\r\n",
        '\ufeffsep=,\n"path", "label"\na/1.png, joy\n"a/2.png", "fear"\n',
        "path,label\na\\1.png,joy\na\\2.png,fear\n",
    ],
)
def test_tables_as_spreadsheets_and_windows_write_them_are_read(folder, tmp_path, table):
    (folder / "table.csv").write_text(table, encoding="utf-8", newline="")
    assert from_csv(folder / "table.csv", "--output_dir", tmp_path) == 0
    records = list(read_records(tmp_path / "records.jsonl"))
    assert [(record.image, record.ground_truth) for record in records] == [
        (str(folder / "a" / "1.png"), "joy"),
        (str(folder / "a" / "2.png"), "fear"),
    ]


def test_lines_are_counted_with_excels_first_one(folder, tmp_path):
    (folder / "table.csv").write_text("sep=,\npath,label\na/1.png,joy\nnone.png,joy\n")
    assert from_csv(folder / "table.csv", "--output_dir", tmp_path) == 1
    (error,) = read_jsonl(tmp_path / "errors.jsonl")
    assert "table.csv, line 4, field 'path'" in error["error"]


@pytest.mark.parametrize("cell", ['"anger, disgust"', "anger;disgust", "anger|disgust"])
def test_two_labels_in_a_cell_are_not_one_label(folder, tmp_path, cell):
    (folder / "two.csv").write_text(f"path,label\na/1.png,{cell}\na/2.png,joy\n")
    assert from_csv(folder / "two.csv", "--output_dir", tmp_path) == 1
    (error,) = read_jsonl(tmp_path / "errors.jsonl")
    assert "two.csv, line 2, field 'label': expected one label" in error["error"]
    assert [record["candidates"] for record in read_jsonl(tmp_path / "records.jsonl")] == [["joy"]]


def test_a_table_in_another_encoding_names_the_byte(folder, tmp_path):
    (folder / "latin.csv").write_bytes("path,label\na/1.png,détendu\na/2.png,joy\n".encode("latin-1"))
    assert from_csv(folder / "latin.csv", "--output_dir", tmp_path) == 1
    (error,) = read_jsonl(tmp_path / "errors.jsonl")
    assert "latin.csv, line 2, field 'label': expected UTF-8 text, got the byte 0xe9: iconv" in error["error"]


@pytest.mark.parametrize("label", ["very happy", "self-confident", "don't know"])
def test_no_stage_3_file_for_labels_that_its_reward_never_counts_as_right(folder, tmp_path, capsys, label):
    (folder / "labels.csv").write_text("path,label\na/1.png,joy\na/2.png,sad\n")
    assert from_csv(folder / "labels.csv", "--output_dir", tmp_path) == 0
    (folder / "labels.csv").write_text(f"path,label\na/1.png,joy\na/2.png,{label}\n")
    assert from_csv(folder / "labels.csv", "--output_dir", tmp_path) == 1
    told = capsys.readouterr().err.splitlines()[-1]
    assert f"no {tmp_path / 'stage3.parquet'}, because of 1 of 2 rows: {folder / 'labels.csv'}, line 3, " in told
    assert "expected one word without punctuation" in told and label in told
    assert not (tmp_path / "stage3.parquet").exists()  # nor the one of the start before
    assert len(read_jsonl(tmp_path / "records.jsonl")) == 2  # evaluation does without the reward


@pytest.mark.parametrize(
    ("header", "more"),
    [
        ("path,label,votes_Joy,Votes_fear,votes_awe", ()),
        ("path,label,joy,Fear,awe", ("--vote_columns", "Joy", "fear", "awe")),
    ],
)
def test_vote_columns_become_votes_and_candidates_and_the_label_where_there_is_none(folder, tmp_path, header, more):
    (folder / "votes.csv").write_text(f"{header}\na/1.png,joy,12,8,0\na/2.png,,3,0.5,0\na/3.png,fear,,,\n")
    assert from_csv(folder / "votes.csv", "--output_dir", tmp_path, *more) == 0
    records = list(read_records(tmp_path / "records.jsonl"))
    assert [record.candidates for record in records] == [["awe", "fear", "joy"]] * 3
    assert [record.ground_truth for record in records] == ["joy", "joy", "fear"]
    votes = [{"joy": 12, "fear": 8, "awe": 0}, {"joy": 3, "fear": 0.5, "awe": 0}, None]
    assert [record.raw.get("label_votes") for record in records] == votes


def test_a_total_of_the_votes_is_no_label(folder, tmp_path, capsys):
    """Or every row would have it for a label, and every share would be halved."""
    table = folder / "votes.csv"
    table.write_text("path,label,votes_joy,votes_fear,votes_total\na/1.png,,3,1,4\na/2.png,,0.5,2,2.5\n")
    with pytest.raises(SystemExit) as ended:
        from_csv(table, "--output_dir", tmp_path / "out")
    assert ended.value.code == 2 and not (tmp_path / "out").exists()
    assert capsys.readouterr().err == (
        f"{table}: expected votes for a label in column votes_total, got the sum of the other columns of votes in each "
        "of 2 rows: take it out, or name it otherwise\n"
    )
    table.write_text(table.read_text().replace("2.5", "1"))
    assert from_csv(table, "--output_dir", tmp_path / "out") == 0


@pytest.mark.parametrize(
    ("cells", "field", "expected"),
    [
        ("joy,-1,2", "votes_joy", "a number of votes, 0 or more, got '-1'"),
        ("joy,many,2", "votes_joy", "a number of votes, 0 or more, got 'many'"),
        ("joy,1,nan", "votes_fear", "a number of votes, 0 or more, got 'nan'"),
        ("joy,0,0", "votes_joy", "at least one vote in the row"),
        (",2,2", "label", "a label, or one with the most votes, got nothing and as many for joy as for fear"),
        (",,", "label", "a label, got nothing"),
    ],
)
def test_votes_that_are_none_are_error_rows_that_name_the_column(folder, tmp_path, cells, field, expected):
    (folder / "votes.csv").write_text(f"path,label,votes_joy,votes_fear\na/1.png,{cells}\na/2.png,joy,1,1\n")
    assert from_csv(folder / "votes.csv", "--output_dir", tmp_path) == 1
    (error,) = read_jsonl(tmp_path / "errors.jsonl")
    assert f"votes.csv, line 2, field '{field}': expected {expected}" in error["error"]
    assert len(read_jsonl(tmp_path / "records.jsonl")) == 1


def test_votes_for_a_label_that_is_no_candidate_are_an_error_row(folder, tmp_path):
    (folder / "votes.csv").write_text("path,label,votes_joy,votes_fear\na/1.png,joy,3,1\na/2.png,joy,3,\n")
    assert from_csv(folder / "votes.csv", "--output_dir", tmp_path, "--labels", "joy", "awe") == 1
    (error,) = read_jsonl(tmp_path / "errors.jsonl")
    assert "votes.csv, line 2, field 'votes_fear': expected votes for one of joy, awe" in error["error"]
    assert [record["label_votes"] for record in read_jsonl(tmp_path / "records.jsonl")] == [{"joy": 3}]


@pytest.mark.parametrize(
    ("header", "more", "told"),
    [
        ("path,label,votes_joy,votes_Joy", (), "expected one column of votes per label, got 'votes_joy'"),
        ("path,label,votes_", (), "expected one column of votes per label, got 'votes_'"),
        (
            "path,label,joy",
            ("--vote_columns", "joy", "awe"),
            "expected columns path and awe, got path,label,joy",
        ),
        ("path,joy", (), "expected columns path and label, got path,joy"),
    ],
)
def test_a_header_of_votes_that_cannot_be_right_is_one_line(folder, tmp_path, capsys, header, more, told):
    (folder / "votes.csv").write_text(f"{header}\na/1.png,joy,1,1\n")
    with pytest.raises(SystemExit) as ended:
        from_csv(folder / "votes.csv", "--output_dir", tmp_path, *more)
    assert ended.value.code == 2
    assert f"votes.csv, line 1: {told}" in capsys.readouterr().err.splitlines()[-1]


def test_one_label_and_numbers_for_labels_are_said(folder, tmp_path, capsys):
    (folder / "odd.csv").write_text("path,label,task\na/1.png,joy,A\na/2.png,-1,B\na/3.png,1.0,B\n")
    assert from_csv(folder / "odd.csv", "--output_dir", tmp_path) == 1  # nor can stage 3's reward count them
    notes = [line for line in capsys.readouterr().out.splitlines() if line.startswith("NOTE")]
    assert notes == [
        "NOTE: task A has one label only, joy: no answer can be wrong",
        "NOTE: task B has numbers for labels (-1, 1.0): a model knows words",
    ]
