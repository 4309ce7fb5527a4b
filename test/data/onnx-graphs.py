"""Writes onnx-graphs.json beside this file: the graphs of test/plugins/torch-onnx.test.ts, by name, in base64. Needs the package onnx (1.23)."""
import base64, json, pathlib, onnx
from onnx import helper as h, TensorProto as T
vi = h.make_tensor_value_info
out = {}
def save(name, nodes, ins, outs, init=[], opset=17, ir=8, check=True):
    g = h.make_graph(nodes, name, ins, outs, init)
    m = h.make_model(g, opset_imports=[h.make_opsetid('', opset)], ir_version=ir)
    if check: onnx.checker.check_model(m)
    out[name] = base64.b64encode(m.SerializeToString()).decode()
one = h.make_tensor('one',T.FLOAT,[],[1])
save('addOne', [h.make_node('Add',['x','one'],['y'])], [vi('x',T.FLOAT,['batch',3])], [vi('y',T.FLOAT,['batch',3])], [one])
save('gather', [h.make_node('Gather',['table','x'],['y'])], [vi('x',T.INT64,['n'])], [vi('y',T.FLOAT,['n'])], [h.make_tensor('table',T.FLOAT,[3],[1,2,3])])
save('oldStyle', [h.make_node('Add',['x','bias'],['y'])], [vi('x',T.FLOAT,['batch',2]), vi('bias',T.FLOAT,[2])], [vi('y',T.FLOAT,['batch',2])], [h.make_tensor('bias',T.FLOAT,[2],[10,20])], opset=8, ir=3)
for n,t in [('float32',T.FLOAT),('float64',T.DOUBLE),('float16',T.FLOAT16),('int8',T.INT8),('int16',T.INT16),('int32',T.INT32),('int64',T.INT64),('uint8',T.UINT8),('uint16',T.UINT16),('uint32',T.UINT32),('uint64',T.UINT64),('bool',T.BOOL),('string',T.STRING)]:
    save('same_'+n, [h.make_node('Identity',['x'],['y'])], [vi('x',t,['n'])], [vi('y',t,['n'])])
save('int4', [h.make_node('Cast',['x'],['y'],to=T.INT4)], [vi('x',T.FLOAT,['n'])], [vi('y',T.INT4,['n'])], opset=21, ir=10)
save('bfloat16', [h.make_node('Cast',['x'],['y'],to=T.BFLOAT16)], [vi('x',T.FLOAT,['n'])], [vi('y',T.BFLOAT16,['n'])])
save('sequence', [h.make_node('SequenceConstruct',['x'],['y'])], [vi('x',T.FLOAT,['n'])], [h.make_tensor_sequence_value_info('y',T.FLOAT,['n'])])
save('opset99', [h.make_node('Identity',['x'],['y'])], [vi('x',T.FLOAT,['n'])], [vi('y',T.FLOAT,['n'])], opset=99, check=False)
# Its weights would lie in a second file.
w = h.make_tensor('w',T.FLOAT,[2],[0,0]); w.ClearField('float_data'); w.data_location = T.EXTERNAL
for k,v in [('location','inlay-weights.bin'),('offset','0'),('length','8')]:
    e = w.external_data.add(); e.key=k; e.value=v
save('external', [h.make_node('Add',['x','w'],['y'])], [vi('x',T.FLOAT,[2])], [vi('y',T.FLOAT,[2])], [w], check=False)
# As slow as asked: rounds of a matrix product.
body = h.make_graph([h.make_node('MatMul',['a','a'],['p']), h.make_node('Identity',['c'],['c2']), h.make_node('Mul',['p','zero'],['z']), h.make_node('Add',['z','a'],['a2'])], 'body',
  [vi('i',T.INT64,[]), vi('c',T.BOOL,[]), vi('a',T.FLOAT,[64,64])], [vi('c2',T.BOOL,[]), vi('a2',T.FLOAT,[64,64])])
save('slow', [h.make_node('ConstantOfShape',['shape'],['start'], value=h.make_tensor('v',T.FLOAT,[1],[0.5])), h.make_node('Loop',['rounds','','start'],['end'], body=body), h.make_node('ReduceMean',['end'],['y'],keepdims=0)],
  [vi('rounds',T.INT64,[])], [vi('y',T.FLOAT,[])], [h.make_tensor('shape',T.INT64,[2],[64,64]), h.make_tensor('zero',T.FLOAT,[],[0])])
pathlib.Path(__file__).with_name('onnx-graphs.json').write_text(json.dumps(out, indent=1) + '\n')
