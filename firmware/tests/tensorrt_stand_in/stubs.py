"""Every function of TensorRT's interfaces as one that aborts, written from the public headers.

    python stubs.py INCLUDE_DIRECTORY > stubs.h

The interfaces have hundreds of pure virtual functions, and other ones in every version. The
stand-in overrides those that the back-end calls; a call of any other ends the test with its name.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

CLASSES = {  # by header and by the namespace whose names their functions use
    ("NvInferImpl.h", "nvinfer1"): (
        *("VHostMemory", "VRuntime", "VCudaEngine", "VExecutionContext", "VTensor", "VLayer"),
        *("VNetworkDefinition", "VTimingCache", "VBuilderConfig", "VBuilder"),
    ),
    ("NvOnnxParser.h", "nvonnxparser"): ("IParser", "IParserError"),
}


def stubs(include: Path) -> str:
    """The header's text."""
    out = ["#pragma once", "#include <NvInfer.h>", "#include <NvOnnxParser.h>"]
    out += ["[[noreturn]] void unexpected(const char *name);", ""]
    for (file, space), names in CLASSES.items():
        text = re.sub(r"//[^\n]*|/\*.*?\*/", "", (include / file).read_text(), flags=re.DOTALL)
        out += [f"namespace stub::{space} {{", f"using namespace ::{space};", ""]
        for name in names:
            base = f"::{space}::apiv::{name}" if file == "NvInferImpl.h" else f"::{space}::{name}"
            out += [f"class {name} : public {base} {{", "public:"]
            out += [f"    {line}" for line in functions(text, name)]
            out += ["};", ""]
        out += [f"}}  // namespace stub::{space}", ""]
    return "\n".join(out)


def functions(text: str, name: str) -> list[str]:
    """Of one class, each as a definition."""
    found = re.search(rf"\bclass {name}\b[^;{{]*\{{(.*?)\n\}}", text, flags=re.DOTALL)
    if found is None:
        raise SystemExit(f"there is no class {name} in these headers")
    lines = []
    for statement in found.group(1).split(";"):
        declared = re.search(r"\bvirtual\b(.*)=\s*0\s*$", statement, flags=re.DOTALL)
        if declared is None or "~" in declared.group(1):
            continue
        signature = " ".join(declared.group(1).split())
        signature = re.sub(r"\s*=\s*(nullptr|false|true|0)", "", signature)  # of an argument
        called = re.search(r"(\w+)\s*\(", signature)
        assert called is not None
        lines.append(f'{signature} override {{ unexpected("{name}::{called.group(1)}"); }}')
    return lines


if __name__ == "__main__":
    print(stubs(Path(sys.argv[1])))
