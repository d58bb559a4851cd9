"""Images of folders by name: photos a stage takes in, HR and LR put together."""

import logging
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from realsr.core.errors import UserError
from realsr.imaging import list_images

logger = logging.getLogger("realsr")

SHOWN = 20  # names in a message
ROLES = {
    "source": "real photos, whose degradation is learnt",
    "target": "clean high-resolution photos",
}
# How published sets name HR and LR: the ending of HR's name, and LR's name of what is before that ending and the scale.
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

    Raises UserError where two have one name, ImageError where the folder is missing or has no images.
    """
    images: dict[str, Path] = {}
    for path in list_images(folder):
        if path.stem in images:
            raise UserError(
                f"{folder}: {images[path.stem].name} and {path.name} would both be called {path.stem}; rename one"
            )
        images[path.stem] = path
    return images


def join_names(names: Iterable[str], most: int = SHOWN) -> str:
    """Return names for a message, sorted, and how many more there are than `most`."""
    listed = sorted(names)
    return ", ".join(listed[:most]) + (
        f" and {len(listed) - most} more" if len(listed) > most else ""
    )


def list_photos(folder: Path | None, role: str, output: Path) -> dict[str, Path]:
    """Return the photos of `data.<role>` as `list_by_name` does.

    role: `source` or `target`; output: the folder that the stage writes into, which the photos' must not be.

    Raises UserError; else as `list_by_name` does.
    """
    if folder is None:
        raise UserError(
            f"data.{role} is not set; it is the folder of {ROLES[role]}: set data.{role}=FOLDER"
        )
    if folder.resolve() == output.resolve():
        raise UserError(
            f"data.{role} and the output folder are the same, {folder}: choose another work_dir"
        )
    return list_by_name(folder)


def damage_facts(damage: str | None) -> dict[str, str]:
    """Return the entry for a photo's damage in a manifest's item: nothing for a sound photo."""
    return {} if damage is None else {"damaged": damage}


def match_folders(
    hr: Path, lr: Path | None, scale: int, lr_name: str | None = None
) -> dict[str, tuple[Path, Path | None]]:
    """Return the HR and LR file of each image, by the name of HR; LR is None where no folder is given.

    LR has HR's name, else one of `RULES`, which a log line reports; composed and decomposed letters of Unicode are
    equal. HR and LR may be in one folder, where images that no rule names are left out.

    lr_name: template of LR's name instead of the rules, such as `{}x4`; {} is HR's name, with or without an ending of
        `RULES`. LR of other names are left out.

    Raises UserError, with the names, where an image has no partner or several, and for a template without {}; else as
    `list_by_name` does.
    """
    high = list_by_name(hr)
    if lr is None:
        return {name: (path, None) for name, path in high.items()}
    rules, together = _choose_rules(scale, lr_name), hr.resolve() == lr.resolve()
    low = _compose_names(lr, list_by_name(lr))
    partners = _find_partners(high, low, rules, together, lr_name is not None)
    owners = dict[str, str]()
    for name, matches in partners.items():
        if len(matches) > 1:
            choices = " or ".join(_suggest(template) for template in matches.values())
            raise UserError(
                f"{hr}: {name} has several LR in {lr}: {join_names(matches)}. Choose one by {choices}"
            )
        for partner in matches:
            if partner in owners:
                raise UserError(
                    f"{lr}: {partner} is the LR of both {owners[partner]} and {name} in {hr}; rename one"
                )
            owners[partner] = name
    pairs: dict[str, tuple[Path, Path | None]] = {
        name: (high[name], low[partner]) for partner, name in owners.items()
    }
    rest = low.keys() - owners.keys() - ({_compose(name) for name in pairs} if together else set())
    if together:  # other images may be in the folder, too
        unmatched = {hr: {name for name in rest if lr_name is None and _is_named(name, rules)}}
    else:
        unmatched = {hr: high.keys() - pairs.keys(), lr: rest if lr_name is None else set()}
    lines = [
        f"only {folder} has {join_names(names)}" for folder, names in unmatched.items() if names
    ]
    if lines or not pairs:
        raise UserError(
            f"{hr} and {lr} do not have the same names: {'; '.join(lines) or 'no two belong together'}. Each HR needs "
            "an LR of its name, or of one that published sets use (0801.png with 0801x4.png, 0801_HR.png with "
            f"0801_LR.png), or of any template: {_suggest('{}x4')}"
        )
    counts = Counter(rule for matches in partners.values() for rule in matches.values())
    if counts.keys() != {"{}"} or rest:
        summary = ", ".join(f"{count} by {rule}" for rule, count in counts.items())
        others = f"; {len(rest)} other images are left out" if rest else ""
        logger.info("%s: LR of %s by name: %s%s", lr, hr, summary, others)
    return pairs


def holds_both(folder: Path, scale: int, lr_name: str | None = None) -> bool:
    """Return whether HR and LR are in one folder, by their names. Raises as `match_folders`."""
    images = list_by_name(folder)
    low = _compose_names(folder, images)
    return any(
        _find_partners(
            images, low, _choose_rules(scale, lr_name), True, lr_name is not None
        ).values()
    )


def _find_partners(
    high: Mapping[str, Path],
    low: Mapping[str, Path],
    rules: Sequence[tuple[str, str]],
    together: bool,
    template: bool,
) -> dict[str, dict[str, str]]:
    """Return for each HR the LR that may be its own, each with its rule; with a template it may have an HR's name."""
    names = {_compose(name) for name in high}
    partners = {name: dict[str, str]() for name in high}
    for name, matches in partners.items():
        for partner, rule in _apply(rules, _compose(name)):
            if (
                partner not in low
                or (together and partner == _compose(name))
                or "{}" in matches.values()
            ):
                continue
            if together or template or rule == "{}" or partner not in names:
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
            f"data.lr_name={lr_name}: expected {{}} once, in the place of HR's name: {_suggest('{}x4')}"
        )
    return [(ending, _compose(lr_name)) for ending in dict.fromkeys(ending for ending, _ in rules)]


def _apply(rules: Sequence[tuple[str, str]], name: str) -> Iterator[tuple[str, str]]:
    """Yield the names that LR of an HR may have, each with its template."""
    for ending, template in rules:
        if name.endswith(ending):
            yield template.replace("{}", name.removesuffix(ending)), template


def _is_named(name: str, rules: Sequence[tuple[str, str]]) -> bool:
    """Return whether a name ends as HR's or LR's, behind an underscore: other endings may be anyone's."""
    endings = [ending for ending, _ in rules] + [
        template.removeprefix("{}") for _, template in rules
    ]
    return name.endswith(tuple(ending for ending in endings if ending.startswith("_")))


def _compose(name: str) -> str:
    """Return a name with its letters composed; file systems and archives differ in that."""
    return unicodedata.normalize("NFC", name)


def _compose_names(folder: Path, images: Mapping[str, Path]) -> dict[str, Path]:
    """Return images by composed names. Raises UserError where two names become one."""
    composed = {_compose(name): path for name, path in images.items()}
    twins = [name for name in images if composed[_compose(name)] != images[name]]
    if twins:
        raise UserError(
            f"{folder}: two images are named {join_names(twins[:1])}, with composed and decomposed letters: rename one"
        )
    return composed


def _suggest(template: str) -> str:
    return f"data.lr_name='{template}'"
