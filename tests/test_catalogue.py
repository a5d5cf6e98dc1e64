"""Which bundled data set goes with which model, and prompts that ask for a trait."""

import pytest

from workbench.contrast import catalogue, pairs


def test_sets_made_for_a_model_go_with_it_alone() -> None:
    assert catalogue.fitting("wren", ["wren-mood", "emotion"]) == ["wren-mood"]
    assert catalogue.fitting("gpt2", ["wren-mood", "emotion"]) == ["emotion"]
    assert catalogue.fitting("gpt2", ["wren-mood"]) == ["emotion", "formality", "honesty"]
    assert len(catalogue.fitting("wren", [])) == 3
    assert all(name.startswith("wren-") for name in catalogue.fitting("wren", [], 99))


def test_without_a_chat_template_no_set_of_chats_fits() -> None:
    fitting = catalogue.fitting("gpt2", [], 99, chats=False)
    assert fitting
    for name in fitting:
        assert all(isinstance(pair.prompt, str) for pair in pairs.load(name))


def test_chats_are_recognised() -> None:
    for name in catalogue.bundled():
        assert catalogue.holds_chats(name) == (not isinstance(pairs.load(name)[0].prompt, str))


def test_asking_prompts_of_both_roles_have_none_in_common() -> None:
    select, report = (
        catalogue.asking("wren-mood", "select"),
        catalogue.asking("wren-mood", "report"),
    )
    assert len(select) >= 16
    assert len(report) >= 16
    assert not set(map(str, select)) & set(map(str, report))
    assert select.role == "select"  # type: ignore[union-attr]
    assert report.role == "report"  # type: ignore[union-attr]
    assert catalogue.asking("emotion", "select") == ()


def test_open_prompts_are_in_no_pair_and_in_one_role() -> None:
    """Enough of either role that nine tenths can be told from fewer (29); where a trait is open in
    few prompts, as refusal is, all of them are in the pairs and none is left."""
    for name in ("wren-mood", "wren-italian", "wren-formality"):
        select, report = (catalogue.open_prompts(name, role) for role in ("select", "report"))
        assert min(len(select), len(report)) == 40
        assert not set(select) & set(report)
        assert not (set(select) | set(report)) & set(pairs.load(name).prompts)
        assert (select.role, report.role) == ("select", "report")  # type: ignore[union-attr]
    assert catalogue.open_prompts("emotion", "select") == ()


def test_a_role_steers_on_open_prompts_or_on_those_of_its_pairs() -> None:
    for name, own in (("wren-mood", True), ("emotion", False)):
        splits = pairs.load(name).split()
        found = catalogue.prompts(name, splits, "report")
        assert (found == catalogue.open_prompts(name, "report")) == own
        assert (found == splits.report.prompts) != own
        assert found.role == "report"
    with pytest.raises(ValueError, match="'extract' is not one of"):
        catalogue.prompts("wren-mood", pairs.load("wren-mood").split(), "extract")


def test_unknown_names_are_refused_with_those_there_are() -> None:
    with pytest.raises(FileNotFoundError, match=r"'mod'; there is .*wren-mood"):
        catalogue.about("mod")
    with pytest.raises(FileNotFoundError, match="'mod'"):
        catalogue.fitting("wren", ["mod"])
    with pytest.raises(ValueError, match=r"'extract' is not one of select, report"):
        catalogue.asking("wren-mood", "extract")
