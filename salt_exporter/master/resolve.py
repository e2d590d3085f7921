"""Print a Salt master's resolved options as JSON. Run by the master's own Python, in a process of its own.

Stands alone (standard library, then Salt), needs no package of ours and runs on every Python that Salt runs on.
Arguments: the config dir, then the names of the options wanted. Only these leave the process: the rest holds secrets.
"""

import glob
import json
import os
import sys


def main(config_dir, names):
    """Resolve the options as `salt-master -c config_dir` would, and print them on one line."""
    import salt.config
    import salt.version

    path = os.path.join(config_dir, "master")
    patterns = note_includes(salt.config)
    opts = salt.config.master_config(path)
    answer = {
        "version": salt.version.__version__,
        # With Salt's own version file: a package that is upgraded in place must be asked again.
        "files": [path, salt.version.__file__] + [name for pattern in patterns for name in glob.glob(pattern)],
        "patterns": patterns,
        "options": {name: opts.get(name) for name in names},
    }
    print(json.dumps(answer, default=str))


def note_includes(config):
    """Return a list that fills with the absolute patterns that Salt follows; included files may include others."""
    patterns = []
    include_config = config.include_config

    def noting(include, orig_path, *args, **kwargs):
        here = os.path.dirname(orig_path)
        named = [include] if isinstance(include, str) else include or []
        patterns.extend(os.path.join(here, os.path.expanduser(pattern)) for pattern in named)
        return include_config(include, orig_path, *args, **kwargs)

    config.include_config = noting
    return patterns


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
