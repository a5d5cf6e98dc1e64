"""Frames in, plotly figures out: the figures of the notebooks and the report.

Every function takes a tidy frame first and plain values by keyword, and notes in the figure's
`layout.meta` how it was called, so that `report.redraw` can draw it again from a saved CSV. Knows
nothing of models, files or notebooks. Text from a model is escaped on the way in.
"""

from workbench.figures.ablation import component_map
from workbench.figures.composition import coefficients_over_text, step_forms
from workbench.figures.condition_study import refusals
from workbench.figures.conditions import (
    class_planes,
    gate_curves,
    similarity_histograms,
    variance_by_layer,
)
from workbench.figures.detectors import predicted_ceilings
from workbench.figures.distance_laws import distance_collapse, distance_laws
from workbench.figures.judges import error_by_agreement, judge_agreement
from workbench.figures.law_pairs import pair_spread, pairs_needed
from workbench.figures.law_scores import law_scores
from workbench.figures.law_study import law_curves
from workbench.figures.laws import odds_curves
from workbench.figures.layers import separation, slopes_by_layer
from workbench.figures.manifold import (
    distance_by_form,
    distance_by_layer,
    distance_link,
    layer_maps,
)
from workbench.figures.manifold_maps import manifold_plane, manifold_space
from workbench.figures.manifold_study import across_vectors, distance_sensitivity
from workbench.figures.maps import cosine_map
from workbench.figures.methods import methods_compared
from workbench.figures.metrics import metric_areas, metric_curves
from workbench.figures.next_token import next_token_bars
from workbench.figures.patching import patching_map
from workbench.figures.probes import probe_map
from workbench.figures.profiles import layer_profiles
from workbench.figures.schedules import composed_equal_kl, composed_tradeoffs
from workbench.figures.survival import survival_map
from workbench.figures.sweeps import sweep_curves
from workbench.figures.token_scores import logprobs_over_text
from workbench.figures.tokens import token_bars
from workbench.figures.tradeoff import trait_against_coherence
from workbench.figures.training import loss_curves
from workbench.figures.ways import preference_against_cost

__all__ = [
    "across_vectors",
    "class_planes",
    "coefficients_over_text",
    "component_map",
    "composed_equal_kl",
    "composed_tradeoffs",
    "cosine_map",
    "distance_by_form",
    "distance_by_layer",
    "distance_collapse",
    "distance_laws",
    "distance_link",
    "distance_sensitivity",
    "error_by_agreement",
    "gate_curves",
    "judge_agreement",
    "law_curves",
    "law_scores",
    "layer_maps",
    "layer_profiles",
    "logprobs_over_text",
    "loss_curves",
    "manifold_plane",
    "manifold_space",
    "methods_compared",
    "metric_areas",
    "metric_curves",
    "next_token_bars",
    "odds_curves",
    "pair_spread",
    "pairs_needed",
    "patching_map",
    "predicted_ceilings",
    "preference_against_cost",
    "probe_map",
    "refusals",
    "separation",
    "similarity_histograms",
    "slopes_by_layer",
    "step_forms",
    "survival_map",
    "sweep_curves",
    "token_bars",
    "trait_against_coherence",
    "variance_by_layer",
]
