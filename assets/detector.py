"""The detector: a TensorFlow.js graph model (SSDLite-MobileNetV2, COCO) rewritten as ONNX.

Input  `image`  uint8   [N, 300, 300, 3] RGB, plain stretch-resize; normalisation is in the graph.
Output `boxes`  float32 [N, 1917, 4]  (ymin, xmin, ymax, xmax), 0 to 1, clipped.
Output `scores` float32 [N, 1917, 90] sigmoid applied; column c is COCO category c + 1.
Output `feature` float32 [N, 1280] what the backbone's last map holds, averaged over its 10 x 10 places; 0 to 6.
"""

from __future__ import annotations

import base64
import json
import math
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper

from assets.onnx_graph import Graph

_GRIDS = (19, 10, 5, 3, 2, 1)
_CENTRE_SCALE, _SIZE_SCALE = 10.0, 5.0
_BATCH_NORM_EPSILON = 1e-3
_LAST_MAP, _CHANNELS = "FeatureExtractor/MobilenetV2/Conv_1/Relu6", 1280


def ssd_anchors() -> np.ndarray[Any, np.dtype[np.float32]]:
    """[1917, 4] (cy, cx, h, w): TensorFlow's SSD anchors, 6 layers, scales .2 to .95, lowest layer reduced."""
    scales = [0.2 + 0.75 * i / 5 for i in range(6)] + [1.0]
    anchors = []
    for layer, grid in enumerate(_GRIDS):
        scale = scales[layer]
        if layer == 0:
            shapes = [(0.1, 1.0), (scale, 2.0), (scale, 0.5)]
        else:
            shapes = [(scale, ratio) for ratio in (1.0, 2.0, 0.5, 3.0, 0.3333)]
            shapes.append((math.sqrt(scale * scales[layer + 1]), 1.0))
        for row in range(grid):
            for column in range(grid):
                centre = ((row + 0.5) / grid, (column + 0.5) / grid)
                anchors += [(*centre, s / math.sqrt(ratio), s * math.sqrt(ratio)) for s, ratio in shapes]
    return np.array(anchors, np.float32)


class _Translator:
    """TensorFlow's nodes, by name, into ONNX nodes of `graph`; each is translated once, when first asked for."""

    def __init__(self, topology: list[dict[str, Any]], weights: dict[str, np.ndarray[Any, Any]]) -> None:
        self.graph = Graph()
        self.weights = weights
        self.nodes = {node["name"]: node for node in topology}
        self.done: dict[str, str] = {}

    def get(self, name: str) -> str:
        name = name.removesuffix(":0")
        if name not in self.done:
            known = self.weights.get(name)
            self.done[name] = self._translate(self.nodes[name]) if known is None else self.graph.constant(known)
        return self.done[name]

    def _translate(self, node: dict[str, Any]) -> str:
        kind = node["op"]
        inputs = [name for name in node.get("input", []) if not name.startswith("^")]
        add = self.graph.add
        if kind in ("Conv2D", "DepthwiseConv2dNative"):
            return self._convolution(node, inputs, depthwise=kind != "Conv2D")
        if kind == "Relu6":
            return add("Clip", [self.get(inputs[0]), self.graph.floats(0), self.graph.floats(6)])
        if kind in ("Add", "BiasAdd", "AddV2"):
            return add("Add", [self.get(name) for name in inputs])
        if kind == "AddN":
            return add("Sum", [self.get(name) for name in inputs])
        if kind == "Mul":
            return add("Mul", [self.get(name) for name in inputs])
        if kind == "FusedBatchNorm":
            return self._batch_norm(node, inputs)
        if kind == "Reshape":
            # TensorFlow stacks (batch, -1, 1, k); ONNX copies the batch dimension for a 0.
            dimensions = [
                int(self.weights[name]) if name in self.weights else 0 for name in self.nodes[inputs[1]]["input"]
            ]
            return add("Reshape", [self.get(inputs[0]), self.graph.integers(*dimensions)])
        if kind == "ConcatV2":
            return add("Concat", [self.get(name) for name in inputs[:-1]], axis=int(self.weights[inputs[-1]]))
        raise ValueError(f"no translation for {kind} ({node['name']})")

    def _convolution(self, node: dict[str, Any], inputs: list[str], *, depthwise: bool) -> str:
        weight = self.weights[inputs[1]]
        kernel = weight.transpose(2, 3, 0, 1) if depthwise else weight.transpose(3, 2, 0, 1)
        channels_first = self.graph.add("Transpose", [self.get(inputs[0])], perm=[0, 3, 1, 2])
        output = self.graph.add(
            "Conv",
            [channels_first, self.graph.constant(kernel)],
            kernel_shape=list(weight.shape[:2]),
            strides=[int(i) for i in node["attr"]["strides"]["list"]["i"]][1:3],
            group=weight.shape[2] if depthwise else 1,
            auto_pad={"SAME": "SAME_UPPER", "VALID": "VALID"}[_text(node["attr"]["padding"])],
        )
        return self.graph.add("Transpose", [output], perm=[0, 2, 3, 1])

    def _batch_norm(self, node: dict[str, Any], inputs: list[str]) -> str:
        gain, bias, mean, variance = (self.weights[name] for name in inputs[1:5])
        epsilon = float(node["attr"].get("epsilon", {}).get("f", _BATCH_NORM_EPSILON))
        scale = gain / np.sqrt(variance + epsilon)
        scaled = self.graph.add("Mul", [self.get(inputs[0]), self.graph.floats(scale)])
        return self.graph.add("Add", [scaled, self.graph.floats(bias - mean * scale)])


def convert_detector(source: Path, target: Path) -> None:
    """`source`: folder with model.json and its shards. Writes `target`, optimised by onnxruntime's basic passes."""
    model = json.loads((source / "model.json").read_text(encoding="utf-8"))
    translator = _Translator(model["modelTopology"]["node"], _weights(source, model["weightsManifest"][0]))
    graph = translator.graph
    scaled = graph.add("Mul", [graph.add("Cast", ["image"], to=TensorProto.FLOAT), graph.floats(2 / 255)])
    translator.done["Preprocessor/sub"] = graph.add("Sub", [scaled, graph.floats(1)])
    _decode_boxes(graph, translator.get("concat"))
    probabilities = graph.add("Sigmoid", [translator.get("concat_1")])
    # Column 0 is "background".
    graph.add("Slice", [probabilities, *(graph.integers(i) for i in (1, 91, 2))], output="scores")
    graph.add("ReduceMean", [translator.get(_LAST_MAP)], output="feature", axes=[1, 2], keepdims=0)
    _save_optimised(_as_model(graph), target)


def _decode_boxes(graph: Graph, encoded: str) -> None:
    anchors = ssd_anchors()
    squeezed = graph.add("Squeeze", [encoded, graph.integers(2)])

    def part(first: int, last: int) -> str:
        return graph.add("Slice", [squeezed, *(graph.integers(i) for i in (first, last, 2))])

    offset = graph.add("Mul", [part(0, 2), graph.floats(anchors[:, 2:] / _CENTRE_SCALE)])
    centre = graph.add("Add", [offset, graph.floats(anchors[:, :2])])
    grown = graph.add("Exp", [graph.add("Mul", [part(2, 4), graph.floats(1 / _SIZE_SCALE)])])
    half = graph.add("Mul", [grown, graph.floats(anchors[:, 2:] / 2)])
    corners = graph.add("Concat", [graph.add("Sub", [centre, half]), graph.add("Add", [centre, half])], axis=-1)
    graph.add("Clip", [corners, graph.floats(0), graph.floats(1)], output="boxes")


def _as_model(graph: Graph) -> onnx.ModelProto:
    anchors = len(ssd_anchors())
    return graph.model(
        "ssdlite-mobilenet-v2-coco",
        inputs=[helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", 300, 300, 3])],
        outputs=[
            helper.make_tensor_value_info("boxes", TensorProto.FLOAT, ["N", anchors, 4]),
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N", anchors, 90]),
            helper.make_tensor_value_info("feature", TensorProto.FLOAT, ["N", _CHANNELS]),
        ],
        opset=17,
    )


def _save_optimised(model: onnx.ModelProto, target: Path) -> None:
    """Let onnxruntime fold the batch norms into the convolutions and cancel the transposes, once, not at each start."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        plain, optimised = Path(folder) / "plain.onnx", Path(folder) / "optimised.onnx"
        onnx.save(model, str(plain))
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(optimised)
        onnxruntime.InferenceSession(str(plain), options, providers=["CPUExecutionProvider"])
        optimised.replace(target)


def _weights(source: Path, manifest: dict[str, Any]) -> dict[str, np.ndarray[Any, Any]]:
    data = b"".join((source / name).read_bytes() for name in manifest["paths"])
    weights, offset = {}, 0
    for entry in manifest["weights"]:
        kind = np.dtype(entry["dtype"])
        count = math.prod(entry["shape"])
        weights[entry["name"]] = np.frombuffer(data, kind, count, offset).reshape(entry["shape"])
        offset += count * kind.itemsize
    if offset != len(data):
        raise ValueError(f"weights hold {len(data)} bytes, the manifest names {offset}")
    return weights


def _text(attribute: dict[str, Any]) -> str:
    value = attribute["s"]
    return (bytes(value) if isinstance(value, list) else base64.b64decode(value)).decode()
