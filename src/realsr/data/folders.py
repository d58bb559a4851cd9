"""Images of folders by name: photos a stage takes in, HR and LR put together."""

import logging
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from realsr.core.errors import UserError
from realsr.imaging import list_images

logger = logging.getLogger("realsr")

SHOWN = 20  # names in a message
ROLES = {
    "source": "real photos whose look is to be learnt",
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
    return ", ".join(listed[:most]) + (f" and {len(listed) - most} more" if len(listed) > most else "")


def list_photos(folder: Path | None, role: str, output: Path) -> dict[str, Path]:
    """Return the photos of `data.<role>` as `list_by_name` does.

    role: `source` or `target`; output: the folder that the stage writes into.

    Raises UserError where no folder is given or where it is the output folder; else as `list_by_name` does.
    """
    if folder is None:
        raise UserError(f"data.{role} is not given; it is the folder of {ROLES[role]}: say data.{role}=FOLDER")
    if folder.resolve() == output.resolve():
        raise UserError(f"data.{role} and the output folder are the same, {folder}: choose another work_dir")
    return list_by_name(folder)


def damage_facts(damage: str | None) -> dict[str, str]:
    """Return what a manifest's item tells about its photo's damage: nothing for a sound photo."""
    return {} if damage is None else {"damaged": damage}


def match_folders(
    hr: Path, lr: Path | None, scale: int, lr_name: str | None = None
) -> dict[str, tuple[Path, Path | None]]:
    """Return the HR and LR file of each image, by the name of HR; of LR None where no folder is given.

    LR has HR's name, else one of `RULES`; a log line tells which. Composed and decomposed letters of Unicode are equal.
    HR and LR may lie in one folder, where images that no rule names are left out.

    lr_name: template of LR's name instead of the rules, such as `{}x4`; {} is HR's name, with or without an ending of
        `RULES`. LR of other names are left out.

    Raises UserError, with the names, where an image has no partner or several, and for a template without {}; else as
    `list_by_name` does.
    """
    high = list_by_name(hr)
    if lr is None:
        return {name: (path, None) for name, path in high.items()}
    rules = _choose_rules(scale, lr_name)
    low, together = list_by_name(lr), hr.resolve() == lr.resolve()
    partners = _find_partners(high, low, rules, together, free=lr_name is not None)
    _refuse_ambiguous(partners, hr, lr)
    pairs = {name: (partner, rule) for name, matches in partners.items() for partner, rule in matches.items()}
    rest = low.keys() - {partner for partner, _ in pairs.values()}
    unmatched = {hr: high.keys() - pairs.keys(), lr: rest if lr_name is None else set[str]()}
    if together:  # other images may lie there, too
        rest -= pairs.keys()
        unmatched = {hr: {name for name in rest if lr_name is None and _is_named(name, rules)}}
    lines = [f"only {folder} has {join_names(names)}" for folder, names in unmatched.items() if names]
    if lines or not pairs:
        raise UserError(_explain_unmatched(hr, lr, scale, lines))
    _report(hr, lr, [rule for _, rule in pairs.values()], len(rest))
    return {name: (high[name], low[partner]) for name, (partner, _) in pairs.items()}


def holds_both(folder: Path, scale: int, lr_name: str | None = None) -> bool:
    """Tell whether HR and LR lie in one folder, by their names. Raises as `match_folders`."""
    images = list_by_name(folder)
    matches = _find_partners(images, images, _choose_rules(scale, lr_name), together=True, free=lr_name is not None)
    return any(matches.values())


def _find_partners(
    high: Collection[str], low: Collection[str], rules: Sequence[tuple[str, str]], together: bool, free: bool
) -> dict[str, dict[str, str]]:
    """Return for each HR the LR that may be its own, each with its rule; free: they may have another HR's name."""
    composed = {_compose(name): name for name in low}
    partners = {name: dict[str, str]() for name in high}
    for name, matches in partners.items():
        for option, rule in _apply(rules, name):
            partner = option if option in low else composed.get(_compose(option))
            if partner is None or (together and partner == name) or "{}" in matches.values():
                continue
            if together or free or rule == "{}" or partner not in high:
                matches.setdefault(partner, rule)
    return partners


def _choose_rules(scale: int, lr_name: str | None) -> list[tuple[str, str]]:
    rules = [
        (ending.replace("{scale}", str(scale)), template.replace("{scale}", str(scale))) for ending, template in RULES
    ]
    if lr_name is None:
        return rules
    if lr_name.count("{}") != 1:
        raise UserError(f"data.lr_name={lr_name}: expected {{}} once, in the place of HR's name: {_ask('{}x4')}")
    return [(ending, lr_name) for ending in dict.fromkeys(ending for ending, _ in rules)]


def _apply(rules: Sequence[tuple[str, str]], name: str) -> Iterator[tuple[str, str]]:
    """Yield what LR of an HR may be called, with the template that says so."""
    for ending, template in rules:
        if name.endswith(ending):
            yield template.replace("{}", name.removesuffix(ending)), template


def _is_named(name: str, rules: Sequence[tuple[str, str]]) -> bool:
    """Tell whether a name ends as one of HR or of LR does, behind an underscore: other endings say too little."""
    endings = [ending for ending, _ in rules] + [template.removeprefix("{}") for _, template in rules]
    return name.endswith(tuple(ending for ending in endings if ending.startswith("_")))


def _compose(name: str) -> str:
    """Return a name with its letters composed; file systems and archives differ in that."""
    return unicodedata.normalize("NFC", name)


def _refuse_ambiguous(partners: Mapping[str, Mapping[str, str]], hr: Path, lr: Path) -> None:
    for name, matches in partners.items():
        if len(matches) > 1:
            choices = " or ".join(_ask(template) for template in matches.values())
            raise UserError(f"{hr}: {name} has several LR in {lr}: {join_names(matches)}. Choose one by {choices}")
    owners: dict[str, str] = {}
    for name, matches in partners.items():
        for partner in matches:
            if partner in owners:
                raise UserError(f"{lr}: {partner} is the LR of both {owners[partner]} and {name} in {hr}; rename one")
            owners[partner] = name


def _explain_unmatched(hr: Path, lr: Path, scale: int, lines: Sequence[str]) -> str:
    rules = _choose_rules(scale, None)
    example = ", ".join(
        f"0801{ending}.png with {template.format('0801')}.png" for ending, template in (rules[1], *rules[5:])
    )
    return (
        f"{hr} and {lr} do not have the same names: {'; '.join(lines) or 'no two belong together'}. Each HR needs an "
        f"LR of its name, or one that published sets would give it ({example}), or of any template: {_ask('{}x4')}"
    )


def _report(hr: Path, lr: Path, rules: Sequence[str], others: int) -> None:
    counts = Counter(rules)
    if counts.keys() == {"{}"} and not others:
        return
    summary = ", ".join(f"{count} by {rule}" for rule, count in counts.items())
    logger.info(
        "%s: LR of %s by name: %s%s", lr, hr, summary, f"; {others} other images are left out" if others else ""
    )


def _ask(template: str) -> str:
    return f"data.lr_name='{template}'"
