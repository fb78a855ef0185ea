"""A MintPy project directory: its templates and steps, prior information, and the corrected copy beside it."""

from .knowledge_input import given_files, read_knowledge, read_mask
from .known_delays import KnownDelays, find_known_delays, space_needed
from .network_options import network_options, pairs_kept
from .options import Option, add_section, options, own_options, whole_template
from .prior_delay import PriorDelay, PriorOfDates, find_prior_delay
from .staging import staged
from .steps import STEP, STEPS, ensure_reference_point, next_command, run_to_reference_date
from .templates import copy_templates, is_on, read_templates
from .work_dir import check_space, fill_work_dir, fits

__all__ = [
    "STEP",
    "STEPS",
    "KnownDelays",
    "Option",
    "PriorDelay",
    "PriorOfDates",
    "add_section",
    "check_space",
    "copy_templates",
    "ensure_reference_point",
    "fill_work_dir",
    "find_known_delays",
    "find_prior_delay",
    "fits",
    "given_files",
    "is_on",
    "network_options",
    "next_command",
    "options",
    "own_options",
    "pairs_kept",
    "read_knowledge",
    "read_mask",
    "read_templates",
    "run_to_reference_date",
    "space_needed",
    "staged",
    "whole_template",
]
