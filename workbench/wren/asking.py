"""What users say: their questions, and the sentences that ask for traits."""

from collections.abc import Mapping
from random import Random

from .frames import frames
from .lexicon import capitalise, capitalise_inside
from .planning import Chance, Turn
from .speaker import Derivation, Speaker, floats


def ask(chance: Chance, speaker: Speaker, turn: Turn, random: Random) -> tuple[str, Derivation]:
    """The user's line, and how it was made."""
    groups = frames()
    if turn.kind in ("story", "task"):
        group = groups[f"ask.{turn.kind}"]
    else:
        group = groups[f"ask.{turn.kind}_{'open' if turn.statement is None else 'yes'}"]
    frame, statement = group[chance.index(len(group))], None
    if turn.statement is not None:
        statements = groups[f"statement.{turn.kind}{turn.statement}"]
        chosen = statements[chance.index(len(statements))]
        statement = Derivation(speaker, chosen, floats(random))
        _, words = speaker.words(chosen, statement.draws)
        speaker.forms["statement"] = capitalise(words)
    said = Derivation(speaker, frame, floats(random), statement=statement)
    _, words = speaker.words(frame, said.draws)
    return capitalise(capitalise_inside(words)), said


def instructions_for(
    chance: Chance, asked: Mapping[str, str], language: str, random: Random
) -> tuple[str, list[Derivation]]:
    """Sentences that ask for traits, each in the manner that it asks for, but for dialect."""
    manner = {name: value for name, value in asked.items() if name != "dialect"}
    groups, speaker = frames(), Speaker(language, manner, {}, set())
    lines, said = [], []
    for name, value in asked.items():
        group = groups[f"instruction.{name}.{value}"]
        said.append(Derivation(speaker, group[chance.index(len(group))], floats(random)))
        _, words = speaker.words(said[-1].frame, said[-1].draws)
        lines.append(capitalise(words))
    chance.log_probability += speaker.log_probability
    return " ".join(lines), said
