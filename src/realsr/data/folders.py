"""Images in folders by name: the photos of a stage, and the matching of HR and LR."""

import logging
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from realsr.core.errors import UserError
from realsr.imaging import list_images

logger = logging.getLogger("realsr")

MAX_NAMES = 20  # in a message
ROLES = {
    "source": "real photos whose degradation is learnt",
    "target": "clean high-resolution photos",
}
# Names in published sets: the ending of HR's name, and the template of LR's name, in which {} is
# HR's name without that ending.
RULES = (
    ("", "{}"),
    ("", "{}x{scale}"),  # DIV2K, bicubic
    ("", "{}x{scale}m"),  # DIV2K, mild, difficult and wild
    ("", "{}x{scale}d"),
    ("", "{}x{scale}w"),
    ("_HR", "{}_LR"),  # Huang et al. 2015: Set5, Set14, BSD100, Urban100
    ("_HR", "{}_LR{scale}"),  # Cai et al. 2019: RealSR
    ("_x{scale}", "{}_x1"),  # Wei et al. 2020: DRealSR; the number is that of the focal length
)


def list_by_name(folder: Path) -> dict[str, Path]:
    """Return the images directly in a folder by name without suffix, sorted.

    Raises UserError if two have the same name, ImageError if the folder is missing or has no
    images.
    """
    images: dict[str, Path] = {}
    for path in list_images(folder):
        if path.stem in images:
            raise UserError(
                f"{folder}: {images[path.stem].name} and {path.name} have the same name; rename "
                "one of them"
            )
        images[path.stem] = path
    return images


def join_names(names: Iterable[str], most: int = MAX_NAMES) -> str:
    """Return names for a message: the first `most`, sorted, and the number of the others."""
    order = sorted(names)
    return ", ".join(order[:most]) + (f" and {len(order) - most} more" if len(order) > most else "")


def list_photos(folder: Path | None, role: str, output: Path) -> dict[str, Path]:
    """Return the photos of `data.<role>` as `list_by_name` does.

    role: `source` or `target`. output: the folder that the stage writes into.

    Raises UserError if the folder is not set or equals `output`; otherwise as `list_by_name`.
    """
    if folder is None:
        raise UserError(
            f"data.{role} is not set; set data.{role}=FOLDER, the folder of {ROLES[role]}"
        )
    if folder.resolve() == output.resolve():
        raise UserError(
            f"data.{role} and the output folder are both {folder}: choose another work_dir"
        )
    return list_by_name(folder)


def damage_facts(damage: str | None) -> dict[str, str]:
    """Return the manifest entry for a photo's damage; empty for an intact photo."""
    return {} if damage is None else {"damaged": damage}


def match_folders(
    hr: Path, lr: Path | None, scale: int, lr_name: str | None = None
) -> dict[str, tuple[Path, Path | None]]:
    """Return the HR and LR file of each image by HR's name; LR is None without an LR folder.

    LR has HR's name, or a name by one of `RULES`, which the log reports. Composed and decomposed
    Unicode letters are equal. HR and LR may be in the same folder; images that match no rule are
    then ignored.

    lr_name: template of LR's name instead of the rules, such as `{}x4`; {} is HR's name, with or
        without an ending of `RULES`. Other LR files are ignored.

    Raises UserError, with the names, if an image has no partner or several, and for a template
    without {}; otherwise as `list_by_name`.
    """
    high = list_by_name(hr)
    if lr is None:
        return {name: (path, None) for name, path in high.items()}
    rules, same_folder = _choose_rules(scale, lr_name), hr.resolve() == lr.resolve()
    low = _compose_names(lr, list_by_name(lr))
    partners = _find_partners(high, low, rules, same_folder, lr_name is not None)
    owners = _choose_owners(partners, hr, lr)
    pairs: dict[str, tuple[Path, Path | None]] = {
        name: (high[name], low[partner]) for partner, name in owners.items()
    }
    extra = low.keys() - owners.keys()
    if same_folder:  # the folder may hold other images too
        extra -= {_compose(name) for name in pairs}
        leftovers = {hr: {name for name in extra if lr_name is None and _is_named(name, rules)}}
    else:
        leftovers = {hr: high.keys() - pairs.keys(), lr: extra if lr_name is None else set()}
    lines = [
        f"only {folder} has {join_names(names)}" for folder, names in leftovers.items() if names
    ]
    if lines or not pairs:
        raise UserError(
            f"the names in {hr} and {lr} do not match: {'; '.join(lines) or 'there is no pair'}. "
            "Each HR image needs an LR image of the same name, or of a name as in published sets "
            "(0801.png with 0801x4.png, 0801_HR.png with 0801_LR.png), or set a template: "
            f"{_suggest('{}x4')}"
        )
    counts = Counter(rule for matches in partners.values() for rule in matches.values())
    if counts.keys() != {"{}"} or extra:
        summary = ", ".join(f"{count} by {rule}" for rule, count in counts.items())
        note = f"; {len(extra)} other images are ignored" if extra else ""
        logger.info("%s: LR images of %s matched by name: %s%s", lr, hr, summary, note)
    return pairs


def _choose_owners(partners: Mapping[str, dict[str, str]], hr: Path, lr: Path) -> dict[str, str]:
    """Return the HR name of each LR name. Raises UserError if an image has several partners."""
    owners = dict[str, str]()
    for name, matches in partners.items():
        if len(matches) > 1:
            choices = " or ".join(_suggest(template) for template in matches.values())
            raise UserError(
                f"{hr}: {name} has several LR images in {lr}: {join_names(matches)}. Set {choices}"
            )
        for partner in matches:
            if partner in owners:
                raise UserError(
                    f"{lr}: {partner} matches both {owners[partner]} and {name} in {hr}; rename "
                    "one of them"
                )
            owners[partner] = name
    return owners


def has_hr_and_lr(folder: Path, scale: int, lr_name: str | None = None) -> bool:
    """Return whether a folder holds both HR and LR, by their names. Raises as `match_folders`."""
    images = list_by_name(folder)
    low = _compose_names(folder, images)
    rules = _choose_rules(scale, lr_name)
    return any(_find_partners(images, low, rules, True, lr_name is not None).values())


def _find_partners(
    high: Mapping[str, Path],
    low: Mapping[str, Path],
    rules: Sequence[tuple[str, str]],
    same_folder: bool,
    template: bool,
) -> dict[str, dict[str, str]]:
    """Return the candidate LR names of each HR, each with its rule.

    An image with another HR's name is a candidate only with a template or in a shared folder.
    """
    names = {_compose(name) for name in high}
    partners = {name: dict[str, str]() for name in high}
    for name, matches in partners.items():
        unicode_name = _compose(name)
        for ending, rule in rules:
            if not unicode_name.endswith(ending) or "{}" in matches.values():
                continue
            partner = rule.replace("{}", unicode_name.removesuffix(ending))
            if partner not in low or (same_folder and partner == unicode_name):
                continue
            if same_folder or template or rule == "{}" or partner not in names:
                matches.setdefault(partner, rule)
    return partners


def _choose_rules(scale: int, lr_name: str | None) -> list[tuple[str, str]]:
    rules = [
        (ending.replace("{scale}", str(scale)), template.replace("{scale}", str(scale)))
        for ending, template in RULES
    ]
    if lr_name is None:
        return rules
    if lr_name.count("{}") != 1:
        raise UserError(
            f"data.lr_name={lr_name}: expected {{}} exactly once, for HR's name, as in "
            f"{_suggest('{}x4')}"
        )
    return [(ending, _compose(lr_name)) for ending in dict.fromkeys(ending for ending, _ in rules)]


def _is_named(name: str, rules: Sequence[tuple[str, str]]) -> bool:
    """Return whether a name has an HR or LR ending with underscore; others are ambiguous."""
    endings = {text.removeprefix("{}") for rule in rules for text in rule}
    return name.endswith(tuple(ending for ending in endings if ending.startswith("_")))


def _compose(name: str) -> str:
    """Return a name with composed letters (NFC); file systems and archives differ in their form."""
    return unicodedata.normalize("NFC", name)


def _compose_names(folder: Path, images: Mapping[str, Path]) -> dict[str, Path]:
    """Return images by composed name. Raises UserError if two names become equal."""
    by_name = {_compose(name): path for name, path in images.items()}
    twins = [name for name in images if by_name[_compose(name)] != images[name]]
    if twins:
        raise UserError(
            f"{folder}: two images are named {join_names(twins[:1])}, in composed and decomposed "
            "letters; rename one of them"
        )
    return by_name


def _suggest(template: str) -> str:
    return f"data.lr_name='{template}'"
