"""Look for known vulnerabilities of the versions that constraints.txt pins, with pip-audit, and say what was not looked
at. pip-audit lives in an environment of its own, so that it pins nothing of the project's."""

import json
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
TOOL = ROOT / ".venv" / "audit"
VERSION = "2.10.1"


def report(pins: list[str]) -> list[dict[str, Any]]:
    """Read what pip-audit says of each pin. Raises `ValueError` with its complaint if it cannot say anything."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write("\n".join(pins))
        file.flush()
        told = [
            "--requirement",
            file.name,
            "--no-deps",
            "--disable-pip",
            "--format",
            "json",
            "--progress-spinner",
            "off",
        ]
        done = subprocess.run([TOOL / "bin" / "pip-audit", *told], capture_output=True, text=True, check=False)
    try:
        found: list[dict[str, Any]] = json.loads(done.stdout)["dependencies"]
    except ValueError as error:
        raise ValueError((done.stderr.strip().splitlines() or ["pip-audit says nothing"])[-1]) from error
    return found


def verdict(found: list[dict[str, Any]]) -> tuple[list[str], bool]:
    """The lines to print, and whether something is vulnerable. pip-audit itself calls what it skipped no problem."""
    skipped = [each for each in found if "skip_reason" in each]
    lines = [
        f"{each['name']} {each['version']}: {vuln['id']}, mended in {', '.join(vuln['fix_versions']) or 'no version'}"
        for each in found
        for vuln in each.get("vulns", ())
    ]
    vulnerable = bool(lines)
    if skipped:
        lines.append(f"Not audited: {len(skipped)} of {len(found)} packages, such as: {skipped[0]['skip_reason']}")
    if not vulnerable and len(skipped) < len(found):
        lines.append(f"No known vulnerability in {len(found) - len(skipped)} packages.")
    return lines, vulnerable


def main() -> int:
    """Audit; 1 if something is vulnerable."""
    try:
        if not (TOOL / "bin" / "pip-audit").exists():
            venv.create(TOOL, with_pip=True)
            install = [str(TOOL / "bin" / "python"), "-m", "pip", "install", "--quiet", f"pip-audit=={VERSION}"]
            subprocess.run(install, check=True, capture_output=True)
        pins = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line]
        (first,) = report(pins[:1])
        if "skip_reason" in first:  # so none can be looked up
            raise ValueError(first["skip_reason"])
        lines, vulnerable = verdict(report(pins))
    except (OSError, ValueError, subprocess.CalledProcessError) as error:
        print(f"Not audited: {error}")
        return 0
    print("\n".join(lines))
    return int(vulnerable)


if __name__ == "__main__":
    sys.exit(main())
