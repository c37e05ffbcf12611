"""Conversion between units of measure, named by their UCUM codes (case-sensitive; https://ucum.org).

Only units of the same quantity convert. An annotation in braces is part of the quantity: gauge pressure
(`bar{gauge}`), absolute pressure (`bar{absolute}`) and pressure that says neither (`bar`) are three
quantities, and none is ever guessed from another; likewise `%{vol}` is not `%{mass}`. Speeds of rotation
(`r/min`, `[rpm]`, `{rev}/min`) are not frequencies (`Hz`).
"""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple


class UnitError(ValueError):
    """A unit is unknown, or two units do not measure the same quantity."""


class _Unit(NamedTuple):
    quantity: str
    factor: Fraction
    offset: Fraction


_TABLE: dict[str, dict[str, str | tuple[str, str]]] = {
    # code: factor to the quantity's base unit, or (factor, offset); fractions are exact
    "temperature": {
        "K": "1",
        "mK": "1/1000",
        "Cel": ("1", "27315/100"),
        "[degF]": ("5/9", "45967/180"),
        "[degR]": "5/9",
    },
    "pressure": {
        "Pa": "1",
        "hPa": "100",
        "kPa": "1000",
        "MPa": "1000000",
        "bar": "100000",
        "mbar": "100",
        "ubar": "1/10",
        "atm": "101325",
        "att": "98066.5",
        "[psi]": "8896443230521/1290320000",
        "mm[Hg]": "133.322",
        "[in_i'Hg]": "3386.3788",
        "m[H2O]": "9806.65",
        "cm[H2O]": "98.0665",
        "mm[H2O]": "9.80665",
    },
    "time": {
        "s": "1",
        "ms": "1/1000",
        "us": "1/1000000",
        "ns": "1/1000000000",
        "min": "60",
        "h": "3600",
        "d": "86400",
    },
    "fraction": {
        "1": "1",
        "%": "1/100",
        "[ppth]": "1/1000",
        "[ppm]": "1/1000000",
        "[ppb]": "1/1000000000",
    },
    "volume flow": {
        "m3/s": "1",
        "m3/min": "1/60",
        "m3/h": "1/3600",
        "m3/d": "1/86400",
        "L/s": "1/1000",
        "L/min": "1/60000",
        "L/h": "1/3600000",
        "mL/s": "1/1000000",
        "mL/min": "1/60000000",
        "mL/h": "1/3600000000",
        "[gal_us]/min": "473176473/7500000000000",
    },
    "mass flow": {
        "kg/s": "1",
        "kg/min": "1/60",
        "kg/h": "1/3600",
        "g/s": "1/1000",
        "g/min": "1/60000",
        "g/h": "1/3600000",
        "t/h": "5/18",
        "t/d": "5/432",
        "[lb_av]/h": "45359237/360000000000",
    },
    "molar flow": {"mol/s": "1", "kmol/s": "1000", "kmol/h": "5/18", "mol/min": "1/60", "mol/h": "1/3600"},
    "amount of substance": {"mol": "1", "kmol": "1000", "mmol": "1/1000"},
    "molar concentration": {"mol/m3": "1", "mol/L": "1000", "mmol/L": "1", "kmol/m3": "1000"},
    "mass concentration": {
        "kg/m3": "1",
        "g/L": "1",
        "mg/L": "1/1000",
        "g/cm3": "1000",
        "g/mL": "1000",
        "kg/L": "1000",
        "g/m3": "1/1000",
        "mg/m3": "1/1000000",
        "ug/L": "1/1000000",
    },
    "length": {
        "m": "1",
        "km": "1000",
        "dm": "1/10",
        "cm": "1/100",
        "mm": "1/1000",
        "um": "1/1000000",
        "[in_i]": "127/5000",
        "[ft_i]": "381/1250",
    },
    "area": {"m2": "1", "cm2": "1/10000", "mm2": "1/1000000"},
    "volume": {
        "m3": "1",
        "L": "1/1000",
        "dm3": "1/1000",
        "mL": "1/1000000",
        "cm3": "1/1000000",
        "[gal_us]": "473176473/125000000000",
    },
    "mass": {
        "kg": "1",
        "g": "1/1000",
        "mg": "1/1000000",
        "t": "1000",
        "[lb_av]": "45359237/100000000",
    },
    "speed": {
        "m/s": "1",
        "mm/s": "1/1000",
        "cm/s": "1/100",
        "m/min": "1/60",
        "m/h": "1/3600",
        "km/h": "5/18",
    },
    "acceleration": {"m/s2": "1", "mm/s2": "1/1000", "[g]": "9.80665"},
    "rotation": {
        "r/s": "1",
        "r/min": "1/60",
        "[rpm]": "1/60",
        "{rev}/min": "1/60",
        "{rev}/s": "1",
        "r/h": "1/3600",
    },
    "frequency": {
        "Hz": "1",
        "kHz": "1000",
        "MHz": "1000000",
        "1/s": "1",
        "/s": "1",
        "1/min": "1/60",
        "/min": "1/60",
        "1/h": "1/3600",
        "/h": "1/3600",
    },
    "electric current": {"A": "1", "mA": "1/1000", "uA": "1/1000000", "kA": "1000"},
    "electric potential": {"V": "1", "mV": "1/1000", "uV": "1/1000000", "kV": "1000"},
    "electric resistance": {"Ohm": "1", "mOhm": "1/1000", "kOhm": "1000", "MOhm": "1000000"},
    "conductivity": {"S/m": "1", "S/cm": "100", "mS/cm": "1/10", "uS/cm": "1/10000", "mS/m": "1/1000"},
    "power": {"W": "1", "mW": "1/1000", "kW": "1000", "MW": "1000000", "kJ/s": "1000", "kJ/h": "5/18"},
    "apparent power": {"V.A": "1", "kV.A": "1000"},
    "energy": {
        "J": "1",
        "kJ": "1000",
        "MJ": "1000000",
        "GJ": "1000000000",
        "W.h": "3600",
        "kW.h": "3600000",
        "MW.h": "3600000000",
        "kcal": "4184",
    },
    "force": {"N": "1", "kN": "1000", "mN": "1/1000"},
    "torque": {"N.m": "1", "kN.m": "1000"},
    "viscosity": {"Pa.s": "1", "mPa.s": "1/1000", "cP": "1/1000", "P": "1/10"},
    "kinematic viscosity": {"m2/s": "1", "mm2/s": "1/1000000", "cSt": "1/1000000"},
    "acidity": {"[pH]": "1"},
    "turbidity": {"[NTU]": "1"},
    "plane angle": {"rad": "1", "mrad": "1/1000"},
    "plane angle in degrees": {"deg": "1"},
    "irradiance": {"W/m2": "1", "kW/m2": "1000"},
    "heating rate": {"K/s": "1", "K/min": "1/60", "K/h": "1/3600", "Cel/s": "1", "Cel/min": "1/60"},
}

_GAUGE = {"g": "gauge", "gauge": "gauge", "a": "absolute", "abs": "absolute", "absolute": "absolute"}

_MEANT = {
    "C": "Cel",
    "°C": "Cel",
    "degC": "Cel",
    "celsius": "Cel",
    "F": "[degF]",
    "°F": "[degF]",
    "degF": "[degF]",
    "degK": "K",
    "psi": "[psi]",
    "psig": "[psi]{gauge}",
    "psia": "[psi]{absolute}",
    "barg": "bar{gauge}",
    "bar(g)": "bar{gauge}",
    "bara": "bar{absolute}",
    "bar(a)": "bar{absolute}",
    "mmHg": "mm[Hg]",
    "inHg": "[in_i'Hg]",
    "rpm": "r/min",
    "RPM": "r/min",
    "sec": "s",
    "hr": "h",
    "day": "d",
    "lpm": "L/min",
    "m³/h": "m3/h",
    "ppm": "[ppm]",
    "ppb": "[ppb]",
    "pct": "%",
    "percent": "%",
    "pH": "[pH]",
    "kWh": "kW.h",
    "Nm": "N.m",
    "ohm": "Ohm",
    "VA": "V.A",
    "kVA": "kV.A",
    "µm": "um",
    "-": "1",
    "": "1",
}


def _unit(quantity: str, entry: str | tuple[str, str]) -> _Unit:
    factor, offset = entry if isinstance(entry, tuple) else (entry, "0")
    return _Unit(quantity, Fraction(factor), Fraction(offset))


_LISTED = {code: _unit(quantity, entry) for quantity, row in _TABLE.items() for code, entry in row.items()}
# UCUM allows both letters for the litre
_UNITS = _LISTED | {
    code.replace("L", "l"): unit
    for code, unit in _LISTED.items()
    if code in {"L", "mL"} or code.startswith(("L/", "mL/")) or code.endswith("/L")
}


def _find(code: str) -> _Unit | None:
    if code in _UNITS:
        return _UNITS[code]
    base, brace, rest = code.partition("{")
    if not brace or not rest.endswith("}") or "{" in rest or base not in _UNITS | {"": None}:
        return None
    unit = _UNITS[base or "1"]
    note = rest[:-1]
    if unit.quantity == "pressure":
        note = _GAUGE.get(note, note)
    return unit._replace(quantity=f"{note} {unit.quantity}")


def known(unit: str) -> bool:
    """Whether `unit` is a UCUM code that nuwatch can convert."""
    return _find(unit) is not None


@lru_cache(maxsize=4096)
def conversion(source: str, target: str) -> tuple[float, float]:
    """Factor and offset from `source` to `target`: ``value_in_target = value_in_source * factor + offset``.

    Values take both; differences, sigmas and bands take the factor only. Equal codes give (1, 0) even where
    the code is unknown. Both numbers are computed exactly and rounded once.

    Raises:
        UnitError: a code is unknown, or the two do not measure the same quantity.
    """
    if source == target:
        return 1.0, 0.0
    a, b = _known(source), _known(target)
    if a.quantity != b.quantity:
        raise UnitError(f"unit {source!r} ({a.quantity}) does not convert to {target!r} ({b.quantity})")
    return float(a.factor / b.factor), float((a.offset - b.offset) / b.factor)


def _known(code: str) -> _Unit:
    unit = _find(code)
    if unit is None:
        meant = _MEANT.get(code)
        hint = f"; hint: did you mean {meant!r}?" if meant else "; hint: UCUM codes are case-sensitive"
        raise UnitError(f"unit {code[:40]!r} is not a UCUM code known here{hint}")
    return unit
