"""The detour of ``linear`` through oneDNN: the same numbers, taken where it suits and only there."""

from contextlib import nullcontext

import pytest
import torch
from s3prl_attention.upstream.kernels import onednn
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

ROWS, IN, OUT = 64, 128, 128  # ROWS * IN * OUT products: the fewest that take the detour
assert ROWS * IN * OUT == onednn.FEWEST_PRODUCTS


@pytest.fixture
def switch(monkeypatch):
    """Sets the environment variable; forgets what was decided before and, in the end, what the test decided."""

    def turn(value):
        monkeypatch.setenv(onednn.SWITCH, value)
        onednn.worthwhile.cache_clear()

    yield turn
    onednn.worthwhile.cache_clear()


@pytest.fixture
def detour(switch):
    if not onednn._operator_works():
        pytest.skip("this PyTorch has no torch.ops.mkldnn._linear_pointwise")
    switch("1")


class Count(TorchDispatchMode):
    """Counts the oneDNN products."""

    def __init__(self):
        super().__init__()
        self.products = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.products += "mkldnn" in str(func)
        return func(*args, **(kwargs or {}))


def tensors(rows=(ROWS,), dtype=torch.float32, bias=True):
    generator = torch.Generator().manual_seed(0)

    def leaf(*shape):
        return torch.randn(*shape, generator=generator, dtype=dtype).requires_grad_()

    return [leaf(*rows, IN), leaf(OUT, IN), *([leaf(OUT)] if bias else [])]


def both_ways(parts, run=functional.linear):
    """Value and gradients by the detour and without it, and how many oneDNN products the detour made."""
    results = []
    for fast in (True, False):
        leaves = [part.detach().clone().requires_grad_(part.requires_grad) for part in parts]
        with onednn.fast_linear() if fast else nullcontext(), Count() as count:
            out = run(*leaves)
            (out * torch.linspace(-1, 1, OUT, dtype=out.dtype)).sum().backward()
        results.append((out.detach(), *[leaf.grad for leaf in leaves]))
        if fast:
            products = count.products
    return results[0], results[1], products


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("rows", [(ROWS,), (2, ROWS // 2), (3, 7, 5)])
def test_value_and_gradients_are_those_of_linear(detour, rows, bias):
    fast, plain, products = both_ways(tensors(rows, bias=bias))
    assert products == 3, "the product, and one for each gradient that is one"
    for got, want in zip(fast, plain, strict=True):
        torch.testing.assert_close(got, want, atol=1e-4, rtol=1e-4)


def test_strides_do_not_matter(detour):
    fast, plain, products = both_ways(
        tensors(), lambda x, w, b: functional.linear(x.T.contiguous().T, w.T.contiguous().T, b)
    )
    assert products == 3
    for got, want in zip(fast, plain, strict=True):
        torch.testing.assert_close(got, want, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("frozen", [0, 1, 2])
def test_what_needs_no_gradient_gets_none(detour, frozen):
    parts = tensors()
    parts[frozen].requires_grad_(False)
    fast, plain, products = both_ways(parts)
    assert products == (3 if frozen == 2 else 2)
    assert fast[1 + frozen] is None
    for got, want in zip(fast, plain, strict=True):
        if want is not None:
            torch.testing.assert_close(got, want, atol=1e-4, rtol=1e-4)


def test_one_vector_is_an_input_too(detour):
    x, weight, bias = torch.randn(1024), torch.randn(1024, 1024), torch.randn(1024)
    with onednn.fast_linear(), Count() as count:
        out = functional.linear(x, weight, bias)
    assert count.products == 1
    torch.testing.assert_close(out, functional.linear(x, weight, bias), atol=1e-3, rtol=1e-4)


def test_modules_take_it_without_knowing(detour):
    layer, x = torch.nn.Linear(IN, OUT), torch.randn(ROWS, IN)
    with onednn.fast_linear(), torch.no_grad(), Count() as count:
        out = layer(x)
    assert count.products == 1
    torch.testing.assert_close(out, layer(x), atol=1e-5, rtol=1e-5)
    with Count() as count:
        layer(x)
    assert count.products == 0, "outside of the context nothing changes"


@pytest.mark.parametrize(
    ("why", "parts", "run"),
    [
        ("float64", tensors(dtype=torch.float64), functional.linear),
        ("bfloat16", [part.detach().bfloat16().requires_grad_() for part in tensors()], functional.linear),
        ("a small input", tensors(rows=(ROWS - 1,)), functional.linear),
        ("keyword arguments", tensors(), lambda x, w, b: functional.linear(x, w, bias=b)),
        ("another function", tensors(), lambda x, w, b: x @ w.T + b),
    ],
)
def test_it_is_not_taken_for(detour, why, parts, run):
    fast, plain, products = both_ways(parts, run)
    assert products == 0
    for got, want in zip(fast, plain, strict=True):
        assert torch.equal(got, want)
        assert got.dtype == want.dtype


def test_it_is_not_taken_under_autocast(detour):
    x, weight, bias = tensors()
    with onednn.fast_linear(), torch.autocast("cpu", dtype=torch.bfloat16), Count() as count:
        out = functional.linear(x, weight, bias)
    assert count.products == 0
    assert out.dtype == torch.bfloat16


def test_switch_0_turns_it_off(switch):
    switch("0")
    assert not onednn.worthwhile()
    fast, plain, products = both_ways(tensors())
    assert products == 0
    assert all(torch.equal(got, want) for got, want in zip(fast, plain, strict=True))


@pytest.mark.parametrize(
    ("value", "machine", "vendor", "works", "worthwhile"),
    [
        ("", "x86_64", "vendor_id : AuthenticAMD", True, True),
        ("", "x86_64", "vendor_id : GenuineIntel", True, False),
        ("", "AMD64", "vendor_id : AuthenticAMD", True, True),
        ("", "aarch64", "", True, False),
        ("", "x86_64", "vendor_id : AuthenticAMD", False, False),
        ("1", "x86_64", "vendor_id : GenuineIntel", True, True),
        ("1", "aarch64", "", True, True),
        ("1", "x86_64", "vendor_id : AuthenticAMD", False, False),
        ("0", "x86_64", "vendor_id : AuthenticAMD", True, False),
    ],
)
def test_which_machine_takes_it(switch, monkeypatch, value, machine, vendor, works, worthwhile):
    monkeypatch.setattr(onednn.platform, "machine", lambda: machine)
    monkeypatch.setattr(onednn, "_vendor", lambda: vendor)
    monkeypatch.setattr(onednn, "_operator_works", lambda: works)
    switch(value)
    assert onednn.worthwhile() == worthwhile


def refuses(x, weight, bias):
    raise AttributeError("'_OpNamespace' 'mkldnn' object has no attribute '_linear_pointwise'")


@pytest.mark.parametrize("product", [refuses, lambda x, weight, bias: x @ weight.T])
def test_an_operator_that_is_gone_or_changed_is_not_used(switch, monkeypatch, product):
    monkeypatch.setattr(onednn, "_product", product)
    switch("1")
    assert not onednn.worthwhile()
    with onednn.fast_linear():
        assert functional.linear(*tensors()).shape == (ROWS, OUT)


@pytest.mark.filterwarnings("ignore:.*an autograd kernel was not registered:UserWarning")
def test_second_derivatives_are_right_or_an_error(detour):
    def penalty(context):
        x, weight, _ = tensors()
        with context:
            out = functional.linear(x, weight).square().sum()
        (gradient,) = torch.autograd.grad(out, weight, create_graph=True)
        return torch.autograd.grad(gradient.square().sum(), x)[0]

    try:
        got = penalty(onednn.fast_linear())
    except RuntimeError:
        return
    torch.testing.assert_close(got, penalty(nullcontext()), rtol=1e-3, atol=1.0)


@pytest.mark.parametrize("gap", ["x", "weight", "gradient"])
def test_the_operator_never_sees_gaps(detour, monkeypatch, gap):
    """A product of (334, 334) by a head's slice of the values took 36 ms instead of 0.04 while it did."""
    assert onednn.worthwhile()  # its own trial shall not count
    seen = []
    product = onednn._product

    def spy(x, weight, bias):
        seen.extend((x, weight))
        return product(x, weight, bias)

    monkeypatch.setattr(onednn, "_product", spy)
    wide = torch.randn(334, 2 * 334, requires_grad=True)
    x = wide[:, :334] if gap == "x" else torch.randn(334, 334, requires_grad=True)
    values = torch.randn(1, 334, 8, 32, requires_grad=True)
    weight = values[0, :, 3].T if gap == "weight" else torch.randn(32, 334, requires_grad=True)
    with onednn.fast_linear():
        out = functional.linear(x, weight)
    slope = torch.randn(334, 64)[:, :32] if gap == "gradient" else torch.randn(334, 32)
    out.backward(slope)
    assert len(seen) == 6
    assert all(tensor.is_contiguous() or tensor.T.is_contiguous() for tensor in seen)
    torch.testing.assert_close(out, x @ weight.T, atol=1e-3, rtol=1e-4)
