"""Involution against a loop over positions."""

import pytest
import torch

from hriusr.blocks import involution
from hriusr.blocks.involution import Involution, InvolutionBlock, involve


def involution_by_loops(x_BCHW, weight_BNGHW, stride):
    batch, channels, height, width = x_BCHW.shape
    _, places, groups, out_height, out_width = weight_BNGHW.shape
    side = int(places**0.5)
    y_BCHW = torch.zeros(batch, channels, out_height, out_width, dtype=x_BCHW.dtype)
    for b, c, row, column, place in torch.cartesian_prod(
        *(torch.arange(n) for n in (batch, channels, out_height, out_width, places))
    ).tolist():
        source_row = row * stride + place // side - side // 2
        source_column = column * stride + place % side - side // 2
        if 0 <= source_row < height and 0 <= source_column < width:
            weight = weight_BNGHW[b, place, c // (channels // groups), row, column]
            y_BCHW[b, c, row, column] += weight * x_BCHW[b, c, source_row, source_column]
    return y_BCHW


@pytest.mark.parametrize(
    ("size", "kernel_size", "stride"), [((5, 4), 3, 1), ((1, 1), 3, 1), ((2, 6), 5, 1), ((5, 4), 3, 2), ((7, 5), 3, 3)]
)
def test_involution_equals_a_loop_over_positions(size, kernel_size, stride):
    unit = Involution(8, kernel_size, group_channels=4, reduction=2, stride=stride).double()
    x_BHWC = torch.randn(2, *size, 8, dtype=torch.float64)
    expected = involution_by_loops(x_BHWC.permute(0, 3, 1, 2), unit.kernels(x_BHWC), stride)
    torch.testing.assert_close(unit(x_BHWC).permute(0, 3, 1, 2), expected, rtol=1e-12, atol=1e-12)
    for way in (involution._involve_by_places, involution._involve_by_rows):  # a GPU's, and an exporter's
        result = way(x_BHWC.permute(0, 3, 1, 2), unit.kernels(x_BHWC), kernel_size, stride)
        torch.testing.assert_close(result, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("num_rows", [1, 2, 5])
def test_bands_of_rows_equal_the_whole(monkeypatch, num_rows):
    unit = Involution(8, 5, group_channels=4, reduction=2)
    x_BHWC = torch.randn(2, 5, 7, 8)
    whole_BHWC = unit(x_BHWC)
    monkeypatch.setattr(involution, "_KERNEL_BYTES", num_rows * 4 * 2 * 7 * 50)
    with torch.no_grad():
        torch.testing.assert_close(unit(x_BHWC), whole_BHWC)


def test_half_precision_is_added_up_in_float32():
    x_BCHW, weight_BNGHW = torch.randn(1, 4, 6, 6), torch.randn(1, 49, 2, 6, 6)
    rough = involve(x_BCHW.bfloat16(), weight_BNGHW.bfloat16())
    exact = involve(x_BCHW.bfloat16().float(), weight_BNGHW.bfloat16().float())
    assert torch.equal(rough, exact.bfloat16())


def test_kernels_come_from_the_position_alone_or_from_the_mean_of_its_cell():
    x_BHWC = torch.randn(1, 5, 3, 8, dtype=torch.float64)
    unit, strided = Involution(8, 3, 4, 2).double(), Involution(8, 3, 4, 2, stride=2).double()
    strided.load_state_dict(unit.state_dict())
    torch.testing.assert_close(unit.kernels(x_BHWC)[..., 2:3, 1:2], unit.kernels(x_BHWC[:, 2:3, 1:2]))
    corner = x_BHWC[:, 4:5, 2:3]  # a cell of one pixel, since sizes are odd
    torch.testing.assert_close(strided.kernels(x_BHWC)[..., 2:3, 1:2], unit.kernels(corner))
    cell = x_BHWC[:, :2, :2].mean((1, 2), keepdim=True)
    torch.testing.assert_close(strided.kernels(x_BHWC)[..., :1, :1], unit.kernels(cell))


def test_one_kernel_everywhere_is_a_depthwise_convolution():
    kernel_NG = torch.randn(9, 2, dtype=torch.float64)
    x_BCHW = torch.randn(1, 6, 5, 4, dtype=torch.float64)
    y_BCHW = involve(x_BCHW, kernel_NG[None, :, :, None, None].expand(1, -1, -1, 5, 4))
    weight = kernel_NG.T.reshape(2, 1, 3, 3).repeat_interleave(3, 0)
    torch.testing.assert_close(y_BCHW, torch.nn.functional.conv2d(x_BCHW, weight, padding=1, groups=6))


def test_gradients_equal_finite_differences():
    x_BCHW = torch.randn(1, 4, 3, 3, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(1, 9, 2, 3, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(involve, (x_BCHW, weight))


def test_block_trains_every_parameter():
    block = InvolutionBlock(8, kernel_size=3, group_channels=4, reduction=2, mlp_ratio=2.0, drop_path=0.0)
    block(torch.randn(1, 4, 5, 8)).square().sum().backward()
    assert [name for name, parameter in block.named_parameters() if not parameter.grad.abs().sum() > 0] == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"group_channels": 3}, r"dim \(=8\) must be a multiple of group_channels \(=3\)"),
        ({"kernel_size": 4}, r"kernel_size \(=4\) must be odd"),
        ({"reduction": 9}, r"reduction \(=9\).*dim \(=8\)"),
    ],
)
def test_wrong_arguments_name_themselves(arguments, message):
    with pytest.raises(ValueError, match=message):
        Involution(8, **{"group_channels": 4} | arguments)
