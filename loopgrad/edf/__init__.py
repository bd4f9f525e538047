"""EDF, an educational framework: objects with a `value` and a `grad`, computed by loop programs.

`graph.py` is its heart; docs/edf.md shows it, and how it is used.

>>> import loopgrad as lg
>>> Affine = lg.edf.component(lg.lib.affine)        # nobody writes its backward
>>> Loss = lg.edf.component(lg.lib.squared_error)
>>> Phi = lg.edf.initial(lg.lib.affine, I=2, J=1)
>>> x, y = lg.edf.Input("x"), lg.edf.Input("y")
>>> model = lg.edf.Model(Loss(Affine(Phi, x), y))
>>> x.value, y.value = [[1.0, 0.0], [0.0, 1.0]], [[3.0], [5.0]]
>>> for _ in range(200):
...     loss = model.forward()
...     model.backward()
...     model.update(0.3)
>>> Phi.W.value.round(3) + Phi.c.value.round(3)
array([[3., 5.]])
"""

from loopgrad.edf.component import component
from loopgrad.edf.graph import Component, Computed, Input, Parameter, Value
from loopgrad.edf.model import Model
from loopgrad.edf.packages import Package, initial, load, save
from loopgrad.edf.parts import Add, Concat, Sum, Zeros
from loopgrad.edf.recurrent import RNN, bidirectional, cell, outputs, residual, stacked
from loopgrad.edf.rules import Adam, Momentum, Rule
from loopgrad.edf.verify import Report

__all__ = [
    "RNN",
    "Adam",
    "Add",
    "Component",
    "Computed",
    "Concat",
    "Input",
    "Model",
    "Momentum",
    "Package",
    "Parameter",
    "Report",
    "Rule",
    "Sum",
    "Value",
    "Zeros",
    "bidirectional",
    "cell",
    "component",
    "initial",
    "load",
    "outputs",
    "residual",
    "save",
    "stacked",
]
