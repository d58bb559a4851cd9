from realsr.provenance.migrations import FORMAT, migrate

OLD = {
    "generator.name": "rrdb", "generator.features": 2, "generator.blocks": 1, "generator.growth": 1,
    "discriminator.name": "patch", "discriminator.features": 2, "discriminator.layers": 1,
    "loss.pixel": 1.0, "loss.perceptual.weight": 0.0, "loss.perceptual.weights": None, "loss.gan": 0.005, "scale": 2,
}  # fmt: skip


def test_a_training_of_the_first_format_names_its_components() -> None:
    section = migrate("training", {"config": OLD})
    assert section["format"] == FORMAT
    assert section["config"] == {
        "generator.name": "rrdb", "generator.features": 2, "generator.blocks": 1, "generator.growth": 1,
        "discriminator.name": "patchgan", "discriminator.features": 2, "discriminator.layers": 1,
        "loss.pixel.name": "l1", "loss.pixel.weight": 1.0, "loss.gan.name": "ragan", "loss.gan.weight": 0.005,
        "scale": 2,
    }  # fmt: skip
    assert migrate("training", section) is section


def test_networks_of_ones_own_keep_their_arguments_alone() -> None:
    old = OLD | {"generator.name": "my.Net", "generator.arguments.file": "x.bin", "loss.gan": 0.0}
    section = migrate(
        "training", {"config": old, "files": {"generator.arguments.file": {"sha256": "0"}}}
    )
    assert section["config"] == {
        "generator.name": "my.Net", "generator.file": "x.bin",
        "loss.pixel.name": "l1", "loss.pixel.weight": 1.0, "scale": 2,
    }  # fmt: skip
    assert section["files"] == {"generator.file": {"sha256": "0"}}
