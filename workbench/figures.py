"""Frames in, plotly figures out: the figures of the notebooks and the report.

Every function takes a tidy frame first and plain values by keyword, and notes in the figure's
`layout.meta` how it was called, so that `report.redraw` can draw it again from a saved CSV. Knows
nothing of models, files or notebooks. Text from a model is escaped on the way in.
"""

from workbench.ablation_figures import component_map
from workbench.composition_figures import (
    coefficients_over_text,
    composed_equal_kl,
    composed_tradeoffs,
    step_forms,
)
from workbench.condition_figures import (
    class_planes,
    gate_curves,
    similarity_histograms,
    variance_by_layer,
)
from workbench.condition_study_figures import refusals
from workbench.detector_figures import predicted_ceilings
from workbench.distance_law_figures import distance_collapse, distance_laws
from workbench.judge_figures import error_by_agreement, judge_agreement
from workbench.law_figures import odds_curves
from workbench.law_pair_figures import pair_spread, pairs_needed
from workbench.law_score_figures import law_scores
from workbench.law_study_figures import law_curves
from workbench.layer_figures import separation, slopes_by_layer
from workbench.manifold_figures import (
    distance_by_form,
    distance_by_layer,
    distance_link,
    layer_maps,
)
from workbench.manifold_maps import manifold_plane, manifold_space
from workbench.manifold_study_figures import across_vectors, distance_sensitivity
from workbench.map_figures import cosine_map
from workbench.method_figures import trait_and_utility
from workbench.metric_figures import metric_areas, metric_curves
from workbench.next_token_figures import next_token_bars
from workbench.patching_figures import patching_map
from workbench.probe_figures import probe_map
from workbench.profile_figures import layer_profiles
from workbench.survival_figures import survival_map
from workbench.sweep_figures import sweep_curves
from workbench.token_figures import token_bars
from workbench.token_score_figures import logprobs_over_text
from workbench.tradeoff_figures import trait_against_coherence
from workbench.training_figures import loss_curves
from workbench.way_figures import preference_against_cost

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
    "trait_and_utility",
    "variance_by_layer",
]
