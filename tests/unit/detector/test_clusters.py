"""Contents that are near end up together, whatever comes first."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from services.detector.domain.clusters import NEW, Near, Placement, joined, place


def incidents(order: list[int], near: set[frozenset[int]]) -> set[frozenset[int]]:
    """What `case` makes of the placements: groups of contents whose clusters are named together."""
    cluster_of: dict[int, str] = {}
    groups: list[set[str]] = []
    for content in order:
        found = [Near(cluster_of[o], "TEXT", 1) for o in cluster_of if frozenset({o, content}) in near]
        placed = place(f"c{content}", found)
        cluster_of[content] = placed.cluster_id
        named = {placed.cluster_id, *placed.also}
        touched = [group for group in groups if group & named]
        groups = [group for group in groups if not group & named] + [named.union(*touched)]
    return {frozenset(c for c in order if cluster_of[c] in group) for group in groups}


@given(st.sets(st.sampled_from([frozenset(p) for p in itertools.combinations(range(7), 2)])), st.permutations(range(7)))
def test_the_same_contents_in_another_order_give_the_same_incidents(near, order):
    assert incidents(sorted(order), near) == incidents(list(order), near)


def test_a_content_that_is_near_to_none_starts_a_cluster():
    assert Placement("new", NEW, 0) == place("new", [])


def test_the_nearest_cluster_takes_it_and_the_others_are_named():
    near = [Near("b", "PDQ", 80), Near("a", "PHASH", 20), Near("b", "ORB", 300), Near("c", "PDQ", 90)]
    assert Placement("a", "PHASH", 20, ("b", "c")) == place("new", near)


def test_a_decision_on_several_contents_names_the_clusters_of_all():
    placements = [Placement("a", NEW, 0), Placement("b", "TEXT", 100, ("c", "a"))]
    assert Placement("a", NEW, 0, ("b", "c")) == joined(placements)
