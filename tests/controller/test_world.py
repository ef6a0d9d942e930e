"""What is believed of events and lists that come late, twice, or not at all."""

from fibflow_operator.world import Key, Kind, World, seen


def resource(name, version, /, kind=Kind.TASK_TYPE, namespace="shop", uid="u", generation=1, status=None, **spec):
    metadata = {"namespace": namespace, "name": name, "uid": uid, "resourceVersion": str(version), "generation": generation}
    return seen({"kind": str(kind), "metadata": metadata | {"creationTimestamp": uid}, "spec": spec, "status": status})


def key(name, kind=Kind.TASK_TYPE):
    return Key(kind, "shop", name)


def test_an_older_version_changes_nothing():
    world = World()
    assert world.see(resource("a", 5)) == {key("a")}
    assert world.see(resource("a", 4, timeoutSeconds=9)) == set()
    assert world.see(resource("a", 5)) == set()
    found = world.get(key("a"))
    assert found is not None and found.spec == {}


def test_a_new_version_that_says_nothing_new_is_known_and_not_looked_at():
    world = World()
    world.see(resource("a", 5, status={"pending": 1}))
    assert world.see(resource("a", 6, status={"pending": 1})) == set()
    assert world.see(resource("a", 5, generation=2)) == set(), "the sixth version is known"


def test_a_status_that_is_being_told_is_no_news_and_another_is():
    world = World()
    world.see(resource("a", 5))
    with world.telling(key("a"), {"pending": 1}):
        assert world.see(resource("a", 6, status={"pending": 1})) == set()
        assert world.see(resource("a", 7, status={"pending": 2})) == {key("a")}
    assert world.see(resource("a", 8, status={"pending": 1})) == {key("a")}


def test_a_late_event_does_not_bring_a_deleted_resource_back():
    world = World()
    world.see(resource("a", 5))
    assert key("a") in world.see_deletion(resource("a", 7))
    assert world.see(resource("a", 6)) == set()
    assert world.is_gone(key("a"))
    assert world.see(resource("a", 8, uid="v")) == {key("a")}
    assert not world.is_gone(key("a"))


def test_what_a_list_lacked_is_not_brought_back_by_a_version_from_before_it():
    world = World()
    world.see(resource("a", 5))
    world.see_all(Kind.TASK_TYPE, None, 8, [])
    assert world.see(resource("a", 6)) == set(), "an answer that was late"
    assert world.is_gone(key("a"))
    assert world.see(resource("a", 9, uid="v")) == {key("a")}


def test_a_late_deletion_does_not_take_a_resource_that_was_made_anew():
    world = World()
    world.see(resource("a", 8, uid="v"))
    assert world.see_deletion(resource("a", 7)) == set()
    assert world.get(key("a")) is not None


def test_what_was_never_seen_is_not_gone_until_a_list_is_complete():
    world = World()
    assert not world.is_gone(key("a"))
    world.see_all(Kind.TASK_TYPE, "other", 1, [])
    assert not world.is_gone(key("a"))
    world.see_all(Kind.TASK_TYPE, "shop", 1, [])
    assert world.is_gone(key("a")) and not world.is_gone(key("a", Kind.CRON_TASK))


def test_a_complete_list_takes_what_it_lacks_unless_that_is_newer():
    world = World()
    world.see(resource("old", 5))
    world.see(resource("new", 9))
    assert world.see_all(Kind.TASK_TYPE, None, 7, []) == {key("old")}
    assert world.get(key("old")) is None and world.get(key("new")) is not None


def test_a_list_of_one_namespace_takes_nothing_elsewhere():
    world = World()
    world.see(resource("a", 5))
    world.see_all(Kind.TASK_TYPE, "other", 7, [])
    assert world.get(key("a")) is not None


def test_what_depends_on_a_resource_is_looked_at_when_it_appears_changes_and_goes():
    world = World()
    cron = resource("c", 1, kind=Kind.CRON_TASK, taskTypeRef={"name": "a"})
    world.see(cron)
    both = {key("a"), cron.key}
    assert world.see(resource("a", 2)) == both
    assert world.see(resource("a", 3, status={"pending": 1})) == {key("a")}
    assert world.see(resource("a", 4, generation=2, status={"pending": 1})) == both
    assert world.see_deletion(resource("a", 5)) == both


def test_the_claimants_of_a_name_are_told_the_oldest_first():
    world = World()
    world.see(resource("young", 1, uid="2026", name="same"))
    world.see(resource("old", 2, uid="2025", name="same"))
    assert world.claimants("shop", "same") == [key("old"), key("young")]
    world.see_deletion(resource("old", 3, uid="2025", name="same"))
    assert world.claimants("shop", "same") == [key("young")]


def test_nothing_is_kept_of_names_that_came_and_went_but_that_they_are_gone():
    world = World()
    for number in range(3):
        world.see(resource(f"a{number}", 2, worker={"app": "a:b"}, workerPoolRef={"name": f"p{number}"}))
        world.see_deletion(resource(f"a{number}", 3))
    assert (world._named, world._claiming, world.with_workers()) == ({}, {}, [])
    assert world.is_gone(key("a0"))
