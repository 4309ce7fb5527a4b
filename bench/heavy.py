"""Makes heavy.onnx: tokens to a vector of 128 by matrix products without weights, some 0.5 ms a row on one core. Needs the PyPI package onnx."""
import numpy as np, onnx
from onnx import TensorProto as T, helper as H, numpy_helper as N

N_, PRODUCTS = 128, 16
nodes = [
    H.make_node('Cast', ['input_ids'], ['ids'], to=T.FLOAT), H.make_node('Cast', ['attention_mask'], ['mask'], to=T.FLOAT), H.make_node('Mul', ['ids', 'mask'], ['kept']),
    H.make_node('ReduceSum', ['kept', 'one'], ['sum'], keepdims=1), H.make_node('Mul', ['sum', 'small'], ['scaled']), H.make_node('Unsqueeze', ['scaled', 'two'], ['cell']),
    H.make_node('Mul', ['row', 'column'], ['base']), H.make_node('Add', ['cell', 'base'], ['m0']),
]
for i in range(PRODUCTS):
    nodes += [H.make_node('MatMul', [f'm{i}', f'm{i}'], [f'p{i}']), H.make_node('Tanh', [f'p{i}'], [f'm{i + 1}'])]
nodes += [H.make_node('ReduceMean', [f'm{PRODUCTS}', 'two'], ['vector'], keepdims=0)]
graph = H.make_graph(nodes, 'heavy', [H.make_tensor_value_info(n, T.INT64, ['batch', 'seq']) for n in ('input_ids', 'attention_mask')], [H.make_tensor_value_info('vector', T.FLOAT, ['batch', N_])],
    [N.from_array(np.array([1]), 'one'), N.from_array(np.array([2]), 'two'), N.from_array(np.array(1e-6, np.float32), 'small'), *(N.from_array(np.linspace(0.01, 0.2, N_, dtype=np.float32).reshape(shape), name) for name, shape in (('row', (1, 1, N_)), ('column', (1, N_, 1))))])
model = H.make_model(graph, opset_imports=[H.make_opsetid('', 18)], ir_version=9)
onnx.checker.check_model(model)
onnx.save(model, __file__.replace('.py', '.onnx'))
