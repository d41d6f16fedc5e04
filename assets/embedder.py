"""The embedder: MiniLM-L6 (a BERT of six layers) from its safetensors as ONNX, mean pooling and unit length included.

Input  `input_ids`, `attention_mask` int64 [batch, tokens].
Output `embedding` float32 [batch, 384], of length 1.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper
from safetensors.numpy import load_file

from assets.onnx_graph import Graph

_LAYERS, _HEADS, _HEAD_SIZE = 6, 12, 32
_WIDTH = _HEADS * _HEAD_SIZE
_NORM_EPSILON = 1e-12
# Added to the scores of padding: after the softmax nothing is left of them.
_MASKED = -1e9


class _Bert:
    """BERT's blocks (Devlin et al. 2019) with weights by their names in the file."""

    def __init__(self, weights: dict[str, np.ndarray[Any, Any]]) -> None:
        self.graph = Graph()
        self._weights = weights

    def weight(self, name: str) -> str:
        return self.graph.floats(self._weights[name])

    def linear(self, x: str, name: str) -> str:
        product = self.graph.add("MatMul", [x, self.graph.floats(self._weights[f"{name}.weight"].T)])
        return self.graph.add("Add", [product, self.weight(f"{name}.bias")])

    def norm(self, x: str, name: str) -> str:
        scale, shift = self.weight(f"{name}.weight"), self.weight(f"{name}.bias")
        return self.graph.add("LayerNormalization", [x, scale, shift], axis=-1, epsilon=_NORM_EPSILON)

    def embedded(self) -> str:
        """Words, positions and the one segment there is."""
        add, integers = self.graph.add, self.graph.integers
        length = add("Slice", [add("Shape", ["input_ids"]), integers(1), integers(2)])
        table = self.weight("embeddings.position_embeddings.weight")
        positions = add("Slice", [table, integers(0), length, integers(0)])
        words = add("Gather", [self.weight("embeddings.word_embeddings.weight"), "input_ids"])
        segment = self.graph.floats(self._weights["embeddings.token_type_embeddings.weight"][0])
        return self.norm(add("Add", [add("Add", [words, positions]), segment]), "embeddings.LayerNorm")

    def layer(self, x: str, index: int, bias: str) -> str:
        name = f"encoder.layer.{index}"
        attended = self.linear(self._attention(x, f"{name}.attention.self", bias), f"{name}.attention.output.dense")
        x = self.norm(self.graph.add("Add", [x, attended]), f"{name}.attention.output.LayerNorm")
        wide = self.graph.add("Gelu", [self.linear(x, f"{name}.intermediate.dense")])
        narrow = self.linear(wide, f"{name}.output.dense")
        return self.norm(self.graph.add("Add", [x, narrow]), f"{name}.output.LayerNorm")

    def _attention(self, x: str, name: str, bias: str) -> str:
        add = self.graph.add

        def heads(kind: str) -> str:
            split = add("Reshape", [self.linear(x, f"{name}.{kind}"), self.graph.integers(0, 0, _HEADS, _HEAD_SIZE)])
            return add("Transpose", [split], perm=[0, 2, 1, 3])

        query, key, value = heads("query"), heads("key"), heads("value")
        products = add("MatMul", [query, add("Transpose", [key], perm=[0, 1, 3, 2])])
        scaled = add("Mul", [products, self.graph.floats(1 / np.sqrt(_HEAD_SIZE))])
        shares = add("Softmax", [add("Add", [scaled, bias])], axis=-1)
        mixed = add("Transpose", [add("MatMul", [shares, value])], perm=[0, 2, 1, 3])
        return add("Reshape", [mixed, self.graph.integers(0, 0, _WIDTH)])


def convert_embedder(source: Path, target: Path) -> None:
    """`source`: folder with model.safetensors and tokenizer.json. Writes both, the model as ONNX, into `target`."""
    bert = _Bert(load_file(source / "model.safetensors"))
    graph = bert.graph
    mask = graph.add("Cast", ["attention_mask"], to=TensorProto.FLOAT)
    hidden = graph.add("Mul", [graph.add("Sub", [graph.floats(1.0), mask]), graph.floats(_MASKED)])
    bias = graph.add("Unsqueeze", [hidden, graph.integers(1, 2)])
    x = bert.embedded()
    for index in range(_LAYERS):
        x = bert.layer(x, index, bias)
    _pool(graph, x, mask)
    model = graph.model(
        "minilm-l6",
        inputs=[
            helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "tokens"])
            for name in ("input_ids", "attention_mask")
        ],
        outputs=[helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", _WIDTH])],
        opset=20,
    )
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        made = Path(folder) / "made"
        made.mkdir()
        onnx.save(model, str(made / "model.onnx"))
        shutil.copy(source / "tokenizer.json", made / "tokenizer.json")
        made.rename(target)


def _pool(graph: Graph, x: str, mask: str) -> None:
    """The mean over the tokens that are no padding, at unit length."""
    weights = graph.add("Unsqueeze", [mask, graph.integers(2)])
    total = graph.add("ReduceSum", [graph.add("Mul", [x, weights]), graph.integers(1)], keepdims=0)
    count = graph.add("ReduceSum", [weights, graph.integers(1)], keepdims=0)
    graph.add("LpNormalization", [graph.add("Div", [total, count])], output="embedding", axis=-1, p=2)
