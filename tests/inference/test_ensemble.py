import torch
from torch import Tensor

from realsr.inference.model import SRModel, ensemble
from realsr.inference.tiling import Tiles, upscale_image


def test_the_ensemble_is_the_mean_of_eight_undone_turns(
    generator_model: SRModel, photo: Tensor
) -> None:
    lr, expected = photo[None], torch.zeros(1, 3, 4 * 72, 4 * 90)
    with torch.no_grad():
        for transposed in (False, True):
            for axes in ([], [-1], [-2], [-1, -2]):
                turned = (lr.mT if transposed else lr).flip(axes)
                back = generator_model.run(turned).flip(axes)
                expected += (back.mT if transposed else back) / 8
        found = ensemble(generator_model).run(lr)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    assert (found - generator_model.run(lr)).abs().max() > 0.01


def test_the_ensemble_commutes_with_turning_the_photo(
    generator_model: SRModel, photo: Tensor
) -> None:
    model = ensemble(generator_model)
    with torch.no_grad():
        turned = model.run(torch.rot90(photo, 1, (-2, -1))[None])
        torch.testing.assert_close(
            torch.rot90(turned, -1, (-2, -1)), model.run(photo[None]), rtol=0, atol=1e-5
        )  # fmt: skip


def test_the_ensemble_leaves_results_of_the_model_alone_and_goes_by_tiles(photo: Tensor) -> None:
    kept = list[Tensor]()

    def run(lr: Tensor) -> Tensor:
        kept.append(lr.repeat_interleave(2, -1).repeat_interleave(2, -2))
        return kept[-1]

    model = ensemble(SRModel(2, torch.device("cpu"), run))
    nearest = photo.repeat_interleave(2, -1).repeat_interleave(2, -2)
    torch.testing.assert_close(upscale_image(model, photo, Tiles(64, 16)), nearest)
    assert len(kept) == 8 * 4
    assert all(float(result.max()) <= 1 for result in kept)
