"""Every setting of the pipeline; profiles and variants are TOML files that are laid over the defaults.

A stage takes only its own section, so a change of one section makes only its stage stale. The built-in profiles are
`profiles/*.toml`; a user's own variants lie in the lake, as `variants/*.toml`.
The settings of one dataset (sources, k-core, split, words) are not here: see `datasets/catalog.py`.
This is the door of the room: other rooms import from here, its own modules from one another.
"""

from rallrec_pipeline.settings.layers import ABOVE_OF_STUDIES, lake_root, load_settings
from rallrec_pipeline.settings.llm import (
    LONGEST_TITLE,
    TEMPLATE_GAP,
    AnswerForm,
    DescriptionSettings,
    ExpectedBy,
    Fact,
    PromptForm,
    PromptSettings,
    TuningSettings,
)
from rallrec_pipeline.settings.methods import (
    DEFAULT_METHODS,
    MIXTURE,
    TAKEN,
    AdapterSettings,
    MethodName,
    MethodSettings,
    RetrieverSettings,
)
from rallrec_pipeline.settings.models import ALL_ROLES, ROLES, ModelSettings, Role
from rallrec_pipeline.settings.problems import did_you_mean, plain_problem, unreadable
from rallrec_pipeline.settings.reasoning import MergeSettings, ReasonedSettings, ReasoningSettings
from rallrec_pipeline.settings.recommending import RecommendationSettings
from rallrec_pipeline.settings.running import RaySettings
from rallrec_pipeline.settings.scoring import ExpertSettings, ScoringSettings
from rallrec_pipeline.settings.section import Section, essential
from rallrec_pipeline.settings.seeds import MAX_SEED, SeedSettings
from rallrec_pipeline.settings.serving import ServingSettings
from rallrec_pipeline.settings.variants import OF_STUDIES, PROFILES, known_variants
from rallrec_pipeline.settings.vectors import (
    AlignmentSettings,
    CollaborativeSettings,
    IndexSettings,
    RelevanceKind,
    RetrievalSettings,
    TextEmbeddingSettings,
)
from rallrec_pipeline.settings.whole import Settings
