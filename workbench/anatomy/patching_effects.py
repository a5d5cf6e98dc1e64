"""What patching each place and position does to an answer: a map of where a prompt's fact lies.

    recovered = (LD_patched - LD_target) / (LD_source - LD_target)

with LD = logit(the source's answer) - logit(the target's): 0 where a patch does nothing, 1 where it
makes the target answer as the source does (Meng et al. 2022, https://arxiv.org/abs/2202.05262; the
metric and its traps: Heimersheim & Nanda 2024, https://arxiv.org/abs/2404.15255). Shares do not add
up: what lies in two places can be recovered in full at either.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import pandas as pd
import torch
from torch import Tensor

from workbench.anatomy.ablation_sweep import chunks
from workbench.anatomy.patching import Cell, Transplant, transplant
from workbench.forward import tracing
from workbench.forward.steering import check_place
from workbench.forward.tracing import Remote
from workbench.interventions.updates import EMBEDDINGS, SITES, Site
from workbench.statistics.distributions import precise
from workbench.support.checks import check_positive, check_whole, require_lists
from workbench.text.token_texts import token_texts
from workbench.text.tokens import Prompt, encode

if TYPE_CHECKING:
    from workbench.loading.models import LM

# How near what is noted of the target in two halves must be to that in one piece, by share.
_APART, _APART_COARSE = 1e-4, 0.05

Answer = str | int


def patching_effects(
    lm: LM,
    source: Prompt,
    target: Prompt,
    answers: tuple[Answer, Answer],
    *,
    sites: Sequence[Site] = ("residual",),
    layers: Sequence[int] | None = None,
    positions: Sequence[int] | None = None,
    align: Mapping[int, int] | None = None,
    memory: float = 1 << 28,
    remote: Remote = False,
) -> pd.DataFrame:
    """What patching the target with the source does to the next token, cell by cell.

    answers    of the source and of the target, each one token: as text that follows the prompt,
               such as (" Paris", " Rome"), or as ids
    sites      where (`updates.Site`): "residual", "attention", "mlp", "attention_write",
               "mlp_write", or "heads", each head apart
    layers     default: all; -1 is the residual stream before the first block
    positions  of the target's tokens, 0 the first; default: all that are aligned
    align      position of the target -> that of the source; prompts of one length need none
    memory     bytes that logits, streams and patches of one forward may take

    One row per (site, layer, head, position), in that order: `site`, `layer`, `head` (-1 but at
    "heads"), `position`, `token` (the target's there, as text), and of the patched target

        logit_difference  logit of the source's answer less that of the target's
        logprob           log-probability of the source's answer, nats
        recovered         see above

    `attrs`: `answers` as text, `source` and `target` (both prompts as text), and of the two without
    a patch `source_difference`, `target_difference`, `source_logprob`, `target_logprob`.

    Raises ValueError for sites that are none or unknown, answers of several tokens or the same
    token, prompts with the same logit difference, and as `patching.patch`.
    """
    memory = check_positive("memory", memory)
    ids = _answer_ids(lm, (source, target), answers)
    cells = _cells(lm, target, sites, layers, positions, align)
    given = transplant(lm, source, target, cells, align=align, remote=remote)

    def finish(logits: Tensor) -> Tensor:
        table = precise(logits[:, -1])
        log = table.log_softmax(dim=-1)
        return torch.stack([table[:, ids[0]] - table[:, ids[1]], log[:, ids[0]]], dim=-1)

    batch = encode(lm, [source])
    with torch.no_grad():
        alone = tracing.forward(lm, batch, (), finish, keep=1, remote=remote).cpu().double()
        whole, values = _patched(lm, given, cells, finish, memory, remote)
    (from_difference, from_logprob), (difference, logprob) = alone[0].tolist(), whole[0].tolist()
    gap = from_difference - difference
    if abs(gap) < 1e-6:
        raise ValueError(
            f"both prompts have a logit difference of {difference:g} between the answers: nothing "
            "to recover; give prompts that are answered differently"
        )
    texts = token_texts(lm.tokenizer, given.target.prompts[0].ids)
    frame = pd.DataFrame(
        {
            "site": [cell.at.site for cell in cells],
            "layer": [cell.at.layer for cell in cells],
            "head": [-1 if cell.head is None else cell.head for cell in cells],
            "position": [cell.position for cell in cells],
            "token": [texts[cell.position] for cell in cells],
            "logit_difference": values[:, 0].numpy(),
            "logprob": values[:, 1].numpy(),
            "recovered": ((values[:, 0] - difference) / gap).numpy(),
        }
    )
    frame.attrs = {
        "model": lm.name,
        "answers": token_texts(lm.tokenizer, ids),
        "source": batch.texts[0],
        "target": given.target.texts[0],
        "source_difference": from_difference,
        "target_difference": difference,
        "source_logprob": from_logprob,
        "target_logprob": logprob,
    }
    return frame


def _patched(
    lm: LM,
    given: Transplant,
    cells: Sequence[Cell],
    finish: Callable[[Tensor], Tensor],
    memory: float,
    remote: Remote,
) -> tuple[Tensor, Tensor]:
    """What `finish` makes of the target alone (1, N), and with each cell patched (C, N), float64.

    Blocks below a patch run once for all cells.
    """
    target = given.target
    order = sorted(range(len(cells)), key=lambda index: cells[index].at.below)
    levels = [cells[index].at.below for index in order]
    needed = sorted({*levels} - {EMBEDDINGS})
    kept, whole = tracing.lower(lm, target, needed, finish, keep=1, remote=remote)
    # Where upper blocks need more of the lower ones than the stream, all blocks run.
    near = _APART if lm.dtype in (torch.float32, torch.float64) else _APART_COARSE
    streams = {}
    for each in kept:
        again = tracing.forward(lm, target, (), finish, keep=1, below=each, remote=remote)
        if float((again - whole).abs().max()) <= near * max(1.0, float(whole.abs().max())):
            streams[each.layer] = each
    wide = max(values.shape[-1] for values in given.held.values())
    # Of a row: its logits, its stream in a block, and what is put into it at one place and more.
    each = 8 * lm.vocabulary + 4 * target.width * (4 * lm.width + 3 * wide)
    most = min(tracing.TOKENS // target.width, int(memory / each))
    found = torch.empty(len(cells), whole.shape[1], dtype=torch.float64)
    for chunk in chunks(lm, levels, target.width, most, remote):
        mine = [order[row] for row in chunk]
        many, edits = given.rows([cells[index] for index in mine])
        below = streams.get(levels[chunk[0]])
        rows = torch.zeros(len(mine), dtype=torch.long)
        found[mine] = tracing.forward(
            lm,
            many,
            edits,
            finish,
            keep=1,
            below=None if below is None else below.select(rows),
            remote=remote,
        ).to("cpu", torch.float64)
    return whole.to("cpu", torch.float64), found


def _cells(
    lm: LM,
    target: Prompt,
    sites: Sequence[Site],
    layers: Sequence[int] | None,
    positions: Sequence[int] | None,
    align: Mapping[int, int] | None,
) -> list[Cell]:
    """Every cell of the map. Raises ValueError for sites that are none, unknown or no list."""
    if isinstance(sites, str) or len(sites) == 0:
        raise ValueError(f"sites {sites!r}: give a list of one at least, such as ['residual']")
    for site in sites:
        if site not in SITES:
            raise ValueError(f"site {site!r} is unknown; choose one of {', '.join(SITES)}")
    require_lists(layers=layers, positions=positions)
    places = [
        check_place(lm, layer, site)
        for site in sites
        for layer in (range(lm.layers) if layers is None else layers)
    ]
    if positions is None:
        length = len(encode(lm, [target]).prompts[0].ids)
        positions = range(length) if align is None else sorted(align)
    positions = [check_whole("position", each, 0) for each in positions]
    return [
        Cell(at, position, head)
        for at in places
        for head in (range(lm.heads) if at.site == "heads" else (None,))
        for position in positions
    ]


def _answer_ids(
    lm: LM, prompts: tuple[Prompt, Prompt], answers: tuple[Answer, Answer]
) -> tuple[int, int]:
    """The token of each answer, as it follows its prompt."""
    if isinstance(answers, str) or len(answers) != 2:
        raise ValueError(f"answers {answers!r}: give two, the source's and the target's")
    ids = []
    for prompt, answer in zip(prompts, answers, strict=True):
        if not isinstance(answer, str):
            ids.append(check_whole("answer", answer, 0, lm.vocabulary - 1))
            continue
        batch = encode(lm, [prompt], [answer])
        own = batch.ids[batch.completion].tolist()
        if len(own) != 1:
            words = [lm.tokenizer.decode([each]) for each in own]
            raise ValueError(
                f"the answer {answer!r} is {len(own)} tokens, {words}: give one token, such as its "
                "first, as text or as an id"
            )
        ids.append(own[0])
    if ids[0] == ids[1]:
        raise ValueError(f"both answers are the token {lm.tokenizer.decode(ids[:1])!r}: give two")
    return ids[0], ids[1]
