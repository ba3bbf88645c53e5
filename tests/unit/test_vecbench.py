"""VECBench's tasks, groups and label sets."""

from inference.data.records import parse_record
from inference.data.vecbench import GROUPS, TASKS, WEBEMO_7, WEBEMO_25, group_of
from tests.corpora.bad_records import a_record


def test_vecbench_has_nine_tasks_three_groups_and_8032_samples():
    assert len(TASKS) == 9
    assert sum(task.n_test for task in TASKS.values()) == 8032
    assert {task.group for task in TASKS.values()} == set(GROUPS)
    by_group = {group: sum(t.n_test for t in TASKS.values() if t.group == group) for group in GROUPS}
    assert by_group == {"ID VSA": 2000, "ID VER": 3997, "OOD VER": 2035}


def test_label_sets_have_the_sizes_that_the_task_names_say():
    assert all(len(set(task.labels)) == int(name.rsplit("-", 1)[1]) for name, task in TASKS.items())
    assert len(WEBEMO_25) == 25 and len(WEBEMO_7) == 7


def test_the_misspelt_task_is_an_alias():
    assert group_of("UnbaisedEmo-6") == "OOD VER"
    assert parse_record(a_record(task="UnbaisedEmo-6"), "f", 1).task == "UnbiasedEmo-6"
    assert group_of("Something-3") is None
