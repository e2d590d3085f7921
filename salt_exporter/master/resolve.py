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
    opts = salt.config.master_config(path)
    includes = opts.get("include") or []
    patterns = [includes] if isinstance(includes, str) else list(includes)
    patterns.append(opts.get("default_include") or "")
    patterns = [os.path.join(config_dir, pattern) for pattern in patterns if pattern]
    answer = {
        "version": salt.version.__version__,
        # With Salt's own version file: a package that is upgraded in place must be asked again.
        "files": [path, salt.version.__file__] + [name for pattern in patterns for name in glob.glob(pattern)],
        "patterns": patterns,
        "options": {name: opts.get(name) for name in names},
    }
    print(json.dumps(answer, default=str))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
