#!/usr/bin/env python
"""Write the forms (vanilla, random_drop, ...) of each detection config below configs/.

    tools/write_config_forms.py

To be run after a config was added; it prints which files it wrote.
"""

from command_line import ToolParser, run


def main() -> None:
    ToolParser(__doc__).parse_args()
    from shakedrop_det.model_zoo.forms import write_forms

    for name in write_forms():
        print(f"configs/{name}")


if __name__ == "__main__":
    run(main)
