"""`fibflow tree` shows what is below a task, however large the workflow around it is."""

import json

from fibflow import NewTask
from fix_by_hand import Hand


def test_a_subtree_of_a_large_workflow_is_whole_and_what_is_left_out_is_counted(fibflow, folder, database, database_url):
    hand = Hand(database)
    root = hand.take()
    hand.spawn(root, NewTask("other"), *[NewTask("work")] * 20)
    (below,) = hand.claim("other")
    kids = hand.spawn(below, *[NewTask("work")] * 3)

    def tree(task_id, limit):
        return json.loads(fibflow("tree", str(task_id), "--limit", str(limit), "-o", "json", "--database", database_url).stdout)

    found = tree(below.id, 10)
    assert [task["id"] for task in found["tasks"]] == [below.id, *kids]
    assert found["left_out"] == 0
    assert (len(tree(root.id, 10)["tasks"]), tree(root.id, 10)["left_out"]) == (10, 15)
