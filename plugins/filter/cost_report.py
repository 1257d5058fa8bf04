# Copyright: The Lightsout authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What was spent as one self-contained page."""

from __future__ import annotations

from html import escape
from typing import Any

from ansible.errors import AnsibleFilterError

DOCUMENTATION = r"""
name: cost_report
version_added: 0.1.0
short_description: One self-contained HTML page with a chart of cost by day and service
description:
  - Turns what M(lightsout.aws.cost_explorer_info) returns into a page that needs no other file and no network.
positional: title, limit
options:
  _input:
    description: The module's result.
    type: dict
    required: true
  title:
    description: What is counted, for example C(project rerank).
    type: str
    required: true
  limit:
    description: The monthly budget in USD. Its line shows what an even month would spend up to each day.
    type: float
author:
  - The Lightsout authors (@lightsout)
"""

EXAMPLES = r"""
- name: Write the report
  ansible.builtin.copy:
    content: "{{ costs | lightsout.aws.cost_report('the whole account', 50) }}"
    dest: costs.html
    mode: "0600"
"""

RETURN = r"""
_value:
  description: The page.
  type: str
"""

#: Colours that differ for everybody, in light and in dark; the last is for all the rest.
COLOURS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#999999")

# One by one: ansible-doc reads assignments, and knows no others.
WIDTH = 900
HEIGHT = 320
LEFT = 70
TOP = 16
BOTTOM = 36

STYLE = """
:root{color-scheme:light dark;--ink:#1b1f24;--soft:#667;--line:#ccd;--back:#fff}
@media (prefers-color-scheme:dark){:root{--ink:#e6e8eb;--soft:#99a;--line:#445;--back:#14171a}}
body{font:16px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--back)}
body{max-width:60rem;margin:2rem auto;padding:0 1rem}
svg{width:100%;height:auto}svg text{fill:var(--soft);font-size:12px}
.grid{stroke:var(--line);stroke-width:1}.budget{stroke:#d33;stroke-width:2;stroke-dasharray:6 4;fill:none}
table{border-collapse:collapse}td,th{padding:.2rem 1rem .2rem 0;text-align:left}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}
.swatch{display:inline-block;width:.8rem;height:.8rem;margin-right:.5rem;border-radius:.15rem}
.figures{display:flex;gap:2.5rem;flex-wrap:wrap}.figures b{display:block;font-size:1.6rem}
footer{color:var(--soft);font-size:.85rem}
""".strip()


def usd(amount: float) -> str:
    """An amount for people; small ones keep their figures."""
    return f"{amount:,.2f}" if amount >= 1 or amount == 0 else f"{amount:.3g}"


def palette(costs: dict[str, Any]) -> dict[str, str]:
    """A colour for each service, most expensive first."""
    names = [one["service"] for one in costs["services"]]
    return {name: COLOURS[min(number, len(COLOURS) - 1)] for number, name in enumerate(names)}


def chart(costs: dict[str, Any], colours: dict[str, str], limit: float | None) -> str:
    """Stacked bars by day and service, and the budget's daily share as a line."""
    days = costs["days"]
    share = limit / 30 if limit else 0.0
    # The line of a generous budget must not flatten the bars to nothing.
    tallest = max((day["total"] for day in days), default=0.0)
    top = max(tallest, share if share <= 4 * tallest else 0.0) or share or 1.0
    step = (WIDTH - LEFT) / max(len(days), 1)
    floor = HEIGHT - BOTTOM

    def y(amount: float) -> float:
        return floor - amount / top * (floor - TOP)

    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="Cost by day and service, USD">']
    for part in range(5):
        amount = top * part / 4
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH}" y1="{y(amount):.1f}" y2="{y(amount):.1f}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y(amount) + 4:.1f}" text-anchor="end">{usd(amount)}</text>')
    for number, day in enumerate(days):
        x, base = LEFT + number * step, 0.0
        for name, colour in colours.items():
            amount = day["services"].get(name, 0.0)
            if amount > 0:
                parts.append(
                    f'<rect x="{x + step * 0.1:.1f}" width="{step * 0.8:.1f}" y="{y(base + amount):.1f}" '
                    f'height="{max(y(base) - y(base + amount), 0.5):.1f}" fill="{colour}">'
                    f"<title>{escape(day['date'])}: {escape(name)}, USD {usd(amount)}</title></rect>"
                )
                base += amount
        if number % max(len(days) // 8, 1) == 0:
            parts.append(
                f'<text x="{x + step / 2:.1f}" y="{HEIGHT - 12}" text-anchor="middle">{day["date"][5:]}</text>'
            )
    if share and share <= top:
        parts.append(f'<path class="budget" d="M{LEFT} {y(share):.1f}H{WIDTH}"><title>budget, a day</title></path>')
    return "".join([*parts, "</svg>"])


def figures(costs: dict[str, Any], limit: float | None) -> list[tuple[str, str]]:
    """The numbers that matter, each with its words."""
    found = [("this month so far", f"USD {usd(costs['month'])}")]
    if costs["month_expected"] is not None:
        found.append(("expected for the whole month", f"USD {usd(costs['month_expected'])}"))
    if limit:
        found.append(("budget for the month", f"USD {usd(limit)}"))
        found.append(("of it spent", f"{costs['month'] / limit:.0%}"))
    return found


def cost_report(costs: dict[str, Any], title: str, limit: float | None = None) -> str:
    """The page.

    Raises:
        AnsibleFilterError: it is not what the module returns.
    """
    if not isinstance(costs, dict) or not {"days", "services", "month", "month_expected", "as_of"} <= set(costs):
        raise AnsibleFilterError("lightsout.aws.cost_report needs what lightsout.aws.cost_explorer_info returns")
    limit = float(limit) if limit else None
    colours = palette(costs)
    rows = "".join(
        f'<tr><td><span class="swatch" style="background:{colours[one["service"]]}"></span>'
        f"{escape(one['service'])}</td>"
        f'<td class="n">{usd(one["total"])}</td></tr>'
        for one in costs["services"]
    )
    numbers = "".join(f"<div><b>{escape(text)}</b>{escape(words)}</div>" for words, text in figures(costs, limit))
    nothing = "" if costs["services"] else "<p>Nothing was spent in these days, as far as AWS has counted.</p>"
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>Cost of {escape(title)}</title><style>{STYLE}</style></head><body>"
        f"<h1>Cost of {escape(title)}</h1><div class=figures>{numbers}</div>"
        f"<h2>By day and service, USD</h2>{chart(costs, colours, limit)}{nothing}"
        f'<table><tr><th>service</th><th class="n">USD</th></tr>{rows}</table>'
        f"<footer><p>AWS Cost Explorer, asked {escape(costs['as_of'])}. AWS counts several times a day and is up to a "
        "day behind; the dashed line is an even day's share of the budget.</p></footer></body></html>\n"
    )


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Any]:
        """Name and function of each."""
        return {"cost_report": cost_report}
