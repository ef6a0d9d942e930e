"""The bounds of the resources' fields, checked without a cluster; test_schemas.py asks a real API server the same."""

from fibflow import schemas
from unit import bounds

UNCHECKED = ("x-kubernetes-list-type",)
"""What only an API server looks at."""


def test_what_is_at_a_bound_is_right_without_a_cluster_too():
    assert [case for case in bounds.accepted() if schemas.faults(case.kind, case.body)] == []


def test_what_is_beyond_a_bound_is_wrong_without_a_cluster_too():
    checked = (case for case in bounds.refused() if case.bound not in UNCHECKED and case.is_own)
    assert [case for case in checked if case.place not in {fault.path for fault in schemas.faults(case.kind, case.body)}] == []


def test_every_bound_of_the_definitions_has_its_two_cases():
    at, beyond = ({(case.kind, case.field, case.bound) for case in cases()} for cases in (bounds.accepted, bounds.refused))
    assert ("TaskType", "timeoutSeconds", "maximum") in at & beyond
    assert {bound for _, _, bound in beyond} == bounds.BEYOND.keys() and {bound for _, _, bound in at} == bounds.AT.keys()


def test_a_types_own_workers_have_the_fields_of_a_pool():
    assert bounds.spec_of("TaskType")["properties"]["worker"]["properties"] == bounds.spec_of("WorkerPool")["properties"]
