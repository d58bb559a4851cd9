from realsr.provenance.migrations import FORMAT, migrate, migrate_run_config

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
        "scale": 2, "optimiser.warmup": 0, "optimiser.max_gradient_norm": None,
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
        "optimiser.warmup": 0, "optimiser.max_gradient_norm": None,
    }  # fmt: skip
    assert section["files"] == {"generator.file": {"sha256": "0"}}


def test_keys_added_to_a_training_have_the_values_of_the_behaviour_before() -> None:
    old = {"loss.vgg.name": "perceptual", "loss.vgg.weight": 1.0, "optimiser.beta1": 0.9}
    config = migrate("training", {"format": 3, "config": old})["config"]
    added = {
        "optimiser.warmup": 0,
        "optimiser.max_gradient_norm": None,
        "loss.vgg.network": "vgg19",
    }
    assert config == old | added
    config["optimiser.warmup"], config["loss.vgg.network"] = 5, "vgg16"
    assert migrate("training", {"format": 3, "config": config})["config"] == config


def test_a_run_s_config_gets_the_keys_that_were_added_and_no_other_terms() -> None:
    term = {"name": "perceptual", "weight": 1.0, "weights": None}
    old = {"optimiser": {"beta1": 0.9}, "loss": {"vgg": term, "pixel": {"name": "l1", "weight": 1}}}
    assert migrate_run_config(old) == (
        {},
        {
            "optimiser": {"beta1": 0.9, "warmup": 0, "max_gradient_norm": None},
            "loss": {"vgg": term | {"network": "vgg19"}, "pixel": {"name": "l1", "weight": 1}},
        },
    )
    assert migrate_run_config({"loss": None, "optimiser": 3})[1] == {"loss": None, "optimiser": 3}


def test_degradations_get_the_keys_that_were_added() -> None:
    old = {"online_degradation.name": "noise_jpeg", "online_degradation.quality": [30, 95]}
    config = migrate("training", {"format": 4, "config": old})["config"]
    assert config == old | {
        "online_degradation.match": "random",
        "online_degradation.jpeg": "quality",
    }
    for name, added in (("noise", {"match": "random"}), ("bsrgan", {})):
        values = {"name": name}
        assert migrate_run_config({"online_degradation": values}) == (
            {},
            {"online_degradation": added | values},
        )


def test_pairs_of_earlier_versions_have_no_hashes_of_pixels() -> None:
    items = {"a": {"files": {}}, "b": {"files": {}, "pixels": {"LR/b.png": "0"}}}
    section = migrate("pairs", {"format": 5, "config": {}, "items": items})
    assert [item["pixels"] for item in section["items"].values()] == [None, {"LR/b.png": "0"}]


def test_kernelgan_gets_the_keys_that_were_added_and_no_other_estimator() -> None:
    added = {"average_from": None, "gan_after_start": False}
    for old, keys in (({"name": "kernelgan", "iterations": 8}, added), ({"name": "spectral"}, {})):
        assert migrate("kernels", {"format": 6, "config": old})["config"] == keys | old
        assert migrate_run_config({"kernels": old}) == ({}, {"kernels": keys | old})
    later = {"name": "kernelgan", "average_from": 200, "gan_after_start": True}
    assert migrate("kernels", {"format": 6, "config": later})["config"] == later
