#!/usr/bin/env python
"""Write the forms (vanilla, random_drop, ...) of each detection config below configs/.

    tools/write_config_forms.py

To be run after a config was added; it prints which files it wrote.
"""

import argparse

from shakedrop_det.model_zoo.forms import write_forms


def main() -> None:
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    for name in write_forms():
        print(f"configs/{name}")


if __name__ == "__main__":
    main()
