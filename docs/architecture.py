"""The picture on the architecture page: ``python docs/architecture.py`` writes ``images/architecture.svg``."""

from __future__ import annotations

from pathlib import Path

BOX, GAP, HIGH, LEFT, TOP, STEP = 150, 34, 62, 120, 16, 104
ROWS = (
    (
        ("project/", "stack/"),
        "#D6EAF8",
        (("ifgramStack.h5", "geometry, template"), ("check and read", "slabs, units"), ("multilook", "training grid")),
    ),
    (
        ("method/",),
        "#D5F5E3",
        (
            ("invert", "pairs to dates"),
            ("VAE, clusters", "functions of time"),
            ("deformation", "and slow sky"),
            ("atmosphere", "of each date"),
        ),
    ),
    (
        ("workflow/", "stack/"),
        "#D6EAF8",
        (
            ("full resolution", "spline, height"),
            ("write", "PROJECT_vae, VAE.h5"),
            ("MintPy", "inversion, reference_date"),
        ),
    ),
    (
        ("results/", "report/", "evaluation/"),
        "#FCF3CF",
        (
            ("result, evidence", "vae_result.json"),
            ("report", "vae_report.html"),
            ("evaluation", "against other corrections"),
        ),
    ),
)
ARROW = (
    '<marker id="a" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
    '<path d="M0 0 8 4 0 8z"/></marker>'
)


def svg() -> str:
    """One row of boxes per group of packages; the data go along each row, then down to the next."""
    width = LEFT + max(len(boxes) for _, _, boxes in ROWS) * (BOX + GAP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {len(ROWS) * STEP}" font-size="14">',
        f'<rect width="100%" height="100%" fill="white"/><defs>{ARROW}</defs>',
    ]
    for k, (packages, colour, boxes) in enumerate(ROWS):
        top = k * STEP + TOP
        first = top + HIGH // 2 + 5 - 9 * (len(packages) - 1)
        parts += [_text(10, first + 18 * i, name, "start", "monospace") for i, name in enumerate(packages)]
        for i, (name, detail) in enumerate(boxes):
            x = LEFT + i * (BOX + GAP)
            parts.append(
                f'<rect x="{x}" y="{top}" width="{BOX}" height="{HIGH}" rx="6" fill="{colour}" stroke="#555"/>'
            )
            parts.append(_text(x + BOX // 2, top + 27, name, "middle", "sans-serif"))
            parts.append(_text(x + BOX // 2, top + 47, detail, "middle", "sans-serif", 11))
            if i:
                parts.append(_arrow(f"M{x - GAP} {top + HIGH // 2}H{x}"))
        if k + 1 < len(ROWS):
            end, bend = LEFT + (len(boxes) - 1) * (BOX + GAP) + BOX // 2, top + HIGH + 20
            parts.append(_arrow(f"M{end} {top + HIGH}V{bend}H{LEFT + BOX // 2}V{top + STEP}"))
    return "\n".join([*parts, "</svg>"]) + "\n"


def _text(x: int, y: int, text: str, anchor: str, font: str, size: int = 14) -> str:
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}" font-family="{font}" font-size="{size}">{text}</text>'


def _arrow(path: str) -> str:
    return f'<path d="{path}" fill="none" stroke="#333" marker-end="url(#a)"/>'


if __name__ == "__main__":
    (Path(__file__).parent / "images" / "architecture.svg").write_text(svg())
