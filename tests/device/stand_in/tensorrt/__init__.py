"""A stand-in for TensorRT's Python API: order of calls, types, and what differs between versions.

It builds nothing: its "plan" names the ONNX file, and running it runs that graph in ONNX Runtime.
What it gives is never a TensorRT result; it shows whether the kit would be understood.

STAND_IN_VERSION  "8.5.2.2", "10.3.0" or "11.4.1"
STAND_IN_SM       that plans are built for; another one cannot load them
STAND_IN_BUILDS   a file that gets a line per build
STAND_IN_SLEEP    seconds that a build takes
STAND_IN_HOG_MB   memory that a build takes
STAND_IN_FAIL     the builder gives up on graphs whose file name contains this
STAND_IN_RAISE    the builder raises this
STAND_IN_REFUSE   an operator that the parser does not know
STAND_IN_WRONG    plans compute other masks than their graphs
"""

from __future__ import annotations

import ctypes
import enum
import json
import os
import time
import types

__version__ = os.environ.get("STAND_IN_VERSION", "10.3.0")
_VERSION = tuple(int(part) for part in __version__.split(".")[:2])
_SM = os.environ.get("STAND_IN_SM", "87")


def _members(**since: tuple) -> dict:
    """Those that this version has: name -> (value, first version, last version)."""
    return {n: v for n, (v, first, last) in since.items() if first <= _VERSION <= last}


_ALWAYS, _NEVER = (0, 0), (99, 0)
NetworkDefinitionCreationFlag = enum.IntEnum(
    "NetworkDefinitionCreationFlag",
    _members(EXPLICIT_BATCH=(0, _ALWAYS, (10, 99)), STRONGLY_TYPED=(1, (9, 1), _NEVER)),
)
BuilderFlag = enum.IntEnum(
    "BuilderFlag",
    _members(
        FP16=(0, _ALWAYS, (10, 99)),
        INT8=(1, _ALWAYS, (10, 99)),
        TF32=(7, _ALWAYS, _NEVER),
        OBEY_PRECISION_CONSTRAINTS=(10, (8, 2), (10, 99)),
    ),
)


class MemoryPoolType(enum.IntEnum):
    WORKSPACE = 0


class TensorIOMode(enum.IntEnum):
    NONE = 0
    INPUT = 1
    OUTPUT = 2


class LayerType(enum.IntEnum):
    CONVOLUTION = 0
    CONSTANT = 1
    SHAPE = 2
    OTHER = 3


class DataType(enum.Enum):
    FLOAT = 0
    HALF = 1
    INT8 = 2
    INT32 = 3
    UINT8 = 5


float32, float16, int8, uint8 = DataType.FLOAT, DataType.HALF, DataType.INT8, DataType.UINT8


class ILogger:
    INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)

    def __init__(self) -> None:
        self._made = True


if _VERSION >= (8, 6):

    class IProgressMonitor:
        def __init__(self) -> None:
            self._made = True


def _log(logger: ILogger, text: str) -> None:
    assert logger._made, "ILogger.__init__ was not called"
    logger.log(ILogger.ERROR, text)


class _Tensor:
    def __init__(self, dtype: DataType) -> None:
        self.dtype = dtype


class _Layer:
    def __init__(self, name: str, kind: LayerType, dtype: DataType = DataType.FLOAT) -> None:
        self.name, self.type, self.num_outputs, self.dtype = name, kind, 1, dtype
        self.precision, self.output_type = None, None

    def get_output(self, index: int) -> _Tensor:
        assert index == 0
        return _Tensor(self.dtype)

    def set_output_type(self, index: int, dtype: DataType) -> None:
        assert index == 0
        assert isinstance(dtype, DataType)
        self.output_type = dtype


class _Network:
    def __init__(self, strong: bool) -> None:
        self.strong, self.path, self.layers, self.quantized = strong, None, [], False

    @property
    def num_layers(self) -> int:
        return len(self.layers)

    def get_layer(self, index: int) -> _Layer:
        return self.layers[index]


class _Error:
    def __init__(self, node: int, text: str) -> None:
        self._node, self._text = node, text

    def node(self) -> int:
        return self._node

    def desc(self) -> str:
        return self._text


class OnnxParser:
    def __init__(self, network: _Network, logger: ILogger) -> None:
        assert isinstance(network, _Network)
        assert isinstance(logger, ILogger)
        self._network, self._errors = network, []

    @property
    def num_errors(self) -> int:
        return len(self._errors)

    def get_error(self, index: int) -> _Error:
        return self._errors[index]

    def parse_from_file(self, path: str) -> bool:
        assert isinstance(path, str), "a path must be text"
        import onnx

        model = onnx.load(path)
        last = 17 if _VERSION < (10, 0) else 20
        if model.opset_import[0].version > last:
            self._errors.append(_Error(-1, f"opset is newer than {last}"))
        for index, node in enumerate(model.graph.node):
            unknown = {os.environ.get("STAND_IN_REFUSE")}
            unknown |= {"LayerNormalization"} if _VERSION < (8, 6) else set()
            if node.op_type in unknown:
                self._errors.append(_Error(index, f"No importer for {node.op_type}"))
            if node.op_type == "QuantizeLinear":
                self._network.quantized = True
            kind = LayerType.CONVOLUTION if node.op_type == "Conv" else LayerType.OTHER
            self._network.layers.append(_Layer(node.name, kind))
            if node.op_type == "Conv":  # the importer's helpers carry the node's name and more
                self._network.layers.append(_Layer(f"{node.name}_{index}", LayerType.OTHER))
            if node.op_type in ("Reshape", "Transpose"):
                name = f"{node.name} [shape]"
                self._network.layers.append(_Layer(name, LayerType.OTHER, DataType.INT32))
        self._network.path = path
        return not self._errors


class _TimingCache:
    def __init__(self, data: bytes) -> None:
        self.fits = not data or data == b"timings of " + __version__.encode()

    def serialize(self) -> bytearray:
        return bytearray(b"timings of " + __version__.encode())


class _Config:
    def __init__(self) -> None:
        self.flags, self.pool, self._cache, self._monitor = {BuilderFlag.TF32}, 0, None, None

    def set_memory_pool_limit(self, pool: MemoryPoolType, size: int) -> None:
        assert isinstance(pool, MemoryPoolType)
        assert isinstance(size, int)
        self.pool = size

    def set_flag(self, flag: BuilderFlag) -> None:
        self.flags.add(BuilderFlag(flag))

    def clear_flag(self, flag: BuilderFlag) -> None:
        self.flags.discard(BuilderFlag(flag))

    def create_timing_cache(self, data: bytes) -> _TimingCache:
        """The real one may abort on bytes that it did not write."""
        assert isinstance(data, bytes)
        if data and not data.startswith(b"timings of "):
            os.abort()
        return _TimingCache(data)

    def set_timing_cache(self, cache: _TimingCache, ignore_mismatch: bool) -> bool:
        assert isinstance(cache, _TimingCache), "a reference, as pybind has it"
        if cache.fits:
            self._cache = cache
        return cache.fits

    def get_timing_cache(self) -> _TimingCache:
        return self._cache

    if _VERSION >= (8, 6):

        @property
        def progress_monitor(self) -> object:
            return self._monitor

        @progress_monitor.setter
        def progress_monitor(self, monitor: IProgressMonitor) -> None:
            assert monitor._made, "IProgressMonitor.__init__ was not called"
            self._monitor = monitor


class Builder:
    def __init__(self, logger: ILogger) -> None:
        assert isinstance(logger, ILogger)
        self._logger = logger

    def create_network(self, flags: int) -> _Network:
        assert isinstance(flags, int)
        explicit = "EXPLICIT_BATCH" in NetworkDefinitionCreationFlag.__members__
        strong = "STRONGLY_TYPED" in NetworkDefinitionCreationFlag.__members__
        is_strong = bool(strong and flags & 2)
        if explicit and _VERSION < (10, 0):
            assert flags & 1, "8.x parses ONNX with an explicit batch only"
        if _VERSION >= (11, 0):
            assert is_strong, "11 has strongly typed networks only"
        return _Network(is_strong)

    def create_builder_config(self) -> _Config:
        return _Config()

    def build_serialized_network(self, network: _Network, config: _Config) -> object:
        assert network.path is not None, "nothing was parsed"
        if config.pool <= 0:
            return self._fail("no workspace")
        names = {flag.name for flag in config.flags}
        if network.strong and names & {"FP16", "INT8", "OBEY_PRECISION_CONSTRAINTS"}:
            return self._fail("a strongly typed network takes no precision flags")
        if network.quantized and not network.strong and "INT8" not in names:
            return self._fail("Q/DQ needs the INT8 flag")
        if any(n.dtype is DataType.INT32 and n.precision is not None for n in network.layers):
            return self._fail("integers have no FP32")
        if os.environ.get("STAND_IN_RAISE"):
            raise MemoryError(os.environ["STAND_IN_RAISE"])
        if os.environ.get("STAND_IN_FAIL", "\n") in network.path:
            return self._fail("Could not find any implementation for node conv1")
        self._work(config)
        kept = sorted(layer.name for layer in network.layers if layer.precision is float32)
        plan = {
            "version": __version__,
            "sm": _SM,
            "graph": network.path,
            "strong": network.strong,
            "flags": sorted(names),
            "in_fp32": len(kept),
            "built": time.monotonic_ns(),  # two builds of one graph differ
        }
        return bytearray(json.dumps(plan).encode())

    def _fail(self, text: str) -> None:
        _log(self._logger, text)

    def _work(self, config: _Config) -> None:
        if os.environ.get("STAND_IN_BUILDS"):
            with open(os.environ["STAND_IN_BUILDS"], "a") as file:
                file.write("build\n")
        monitor = config._monitor
        if monitor is not None:
            monitor.phase_start("Building engine", None, 1)
        hog = bytearray(int(os.environ.get("STAND_IN_HOG_MB", "0")) << 20)
        hog[::4096] = b"\1" * len(hog[::4096])
        time.sleep(float(os.environ.get("STAND_IN_SLEEP", "0")))
        if monitor is not None:
            assert monitor.step_complete("Building engine", 0)
            monitor.phase_finish("Building engine")


class Runtime:
    def __init__(self, logger: ILogger) -> None:
        assert isinstance(logger, ILogger)
        self._logger = logger

    def deserialize_cuda_engine(self, data: bytes) -> object:
        try:
            plan = json.loads(bytes(data).decode())
        except ValueError:
            _log(self._logger, "Magic tag does not match")
            return None
        if (plan["version"], plan["sm"]) != (__version__, _SM):
            _log(self._logger, "The engine plan file is not compatible with this version")
            return None
        return _Engine(plan)


_TYPES = {"tensor(uint8)": (DataType.UINT8, ctypes.c_uint8)}
_TYPES["tensor(float)"] = (DataType.FLOAT, ctypes.c_float)


class _Program:
    """A plan of the stand-in for torch_tensorrt: a program, run by torch."""

    def __init__(self, plan: dict) -> None:
        import torch

        self._module = torch.export.load(plan["program"]).module()
        self.inputs, self.outputs = plan["inputs"], plan["outputs"]

    def get_inputs(self) -> list:
        return [types.SimpleNamespace(**each) for each in self.inputs]

    def get_outputs(self) -> list:
        return [types.SimpleNamespace(**each) for each in self.outputs]

    def run(self, names: list, given: dict) -> list:
        import torch

        taken = [torch.from_numpy(given[each["name"]].copy()) for each in self.inputs]
        with torch.no_grad():
            found = self._module(*taken)
        found = [found] if isinstance(found, torch.Tensor) else list(found)
        by_name = dict(zip([each["name"] for each in self.outputs], found))
        return [by_name[name].numpy() for name in names]


def _session(plan: dict) -> object:
    if "program" in plan:
        return _Program(plan)
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    settings.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(plan["graph"], settings)


class _Engine:
    def __init__(self, plan: dict) -> None:
        self.session = _session(plan)
        self.ports = {port.name: port for port in self.session.get_inputs()}
        self.inputs = set(self.ports)
        self.ports.update((port.name, port) for port in self.session.get_outputs())

    @property
    def num_io_tensors(self) -> int:
        return len(self.ports)

    def get_tensor_name(self, index: int) -> str:
        return list(self.ports)[index]

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        return TensorIOMode.INPUT if name in self.inputs else TensorIOMode.OUTPUT

    def get_tensor_shape(self, name: str) -> tuple:
        return tuple(self.ports[name].shape)

    def get_tensor_dtype(self, name: str) -> DataType:
        return _TYPES[self.ports[name].type][0]

    def create_execution_context(self) -> _Context:
        return _Context(self)


class _Context:
    def __init__(self, engine: _Engine) -> None:
        self._engine, self._addresses = engine, {}

    def set_tensor_address(self, name: str, address: int) -> bool:
        assert name in self._engine.ports, f"no tensor {name}"
        assert isinstance(address, int) and address, "an address is a number"
        self._addresses[name] = address
        return True

    def execute_async_v3(self, stream_handle: int) -> bool:
        assert isinstance(stream_handle, int)
        missing = set(self._engine.ports) - set(self._addresses)
        assert not missing, f"no address for {missing}"
        arrays = {name: self._array(name) for name in self._engine.ports}
        names = [name for name in arrays if name not in self._engine.inputs]
        given = {name: arrays[name] for name in self._engine.inputs}
        for name, found in zip(names, self._engine.session.run(names, given)):
            arrays[name][...] = -found if os.environ.get("STAND_IN_WRONG") else found
        return True

    def _array(self, name: str) -> object:
        import numpy as np

        port = self._engine.ports[name]
        kind = _TYPES[port.type][1]
        count = int(np.prod(port.shape))
        memory = (kind * count).from_address(self._addresses[name])
        return np.frombuffer(memory, dtype=kind).reshape(port.shape)
