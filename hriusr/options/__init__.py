"""Option files: schema, inheritance, loading, checking.

    options = load_options("options/train/quickstart_hriusr_x2.yml", is_train=True)
    options.train.total_iter, options.run.rank, options.to_basicsr_dict()

Shapes and pictures do not come in here: this package reads text and imports no network.
"""

from hriusr.options.load import load_options
from hriusr.options.run_context import RunContext
from hriusr.options.schema import Options

__all__ = ["Options", "RunContext", "load_options"]
