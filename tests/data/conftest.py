"""Fixtures of the tests of data."""

import csv
import gzip
import io
from collections import defaultdict
from pathlib import Path

import pytest

NOTE = "ROW_ID,SUBJECT_ID,HADM_ID,CHARTDATE,CHARTTIME,STORETIME,CATEGORY,DESCRIPTION,CGID,ISERROR,TEXT"
HEADERS = {
    "NOTEEVENTS": NOTE,
    "DIAGNOSES_ICD": "ROW_ID,SUBJECT_ID,HADM_ID,SEQ_NUM,ICD9_CODE",
    "D_ICD_DIAGNOSES": "ROW_ID,ICD9_CODE,SHORT_TITLE,LONG_TITLE",
    "ADMISSIONS": "ROW_ID,SUBJECT_ID,HADM_ID,ADMITTIME,DISCHTIME,DEATHTIME,ADMISSION_TYPE,ADMISSION_LOCATION,"
    "DISCHARGE_LOCATION,INSURANCE,LANGUAGE,RELIGION,MARITAL_STATUS,ETHNICITY,EDREGTIME,EDOUTTIME,DIAGNOSIS,"
    "HOSPITAL_EXPIRE_FLAG,HAS_CHARTEVENTS_DATA",
    "PRESCRIPTIONS": "ROW_ID,SUBJECT_ID,HADM_ID,ICUSTAY_ID,STARTDATE,ENDDATE,DRUG_TYPE,DRUG,DRUG_NAME_POE,"
    "DRUG_NAME_GENERIC,FORMULARY_DRUG_CD,GSN,NDC,PROD_STRENGTH,DOSE_VAL_RX,DOSE_UNIT_RX,FORM_VAL_DISP,"
    "FORM_UNIT_DISP,ROUTE",
}


class Mimic:
    """A made MIMIC-III: rows are added by the columns that matter, the others stay empty."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rows: dict[str, list[dict[str, str]]] = defaultdict(list)

    def add(self, table: str, **cells: str) -> None:
        """One row of a table."""
        self.rows[table].append({"ROW_ID": str(len(self.rows[table]) + 1), **cells})

    def note(self, patient: str, stay: str, text: str, **cells: str) -> None:
        """A discharge summary, unless the cells say otherwise."""
        kind = {"CATEGORY": "Discharge summary", "DESCRIPTION": "Report", "CHARTDATE": "2101-01-01"}
        self.add("NOTEEVENTS", SUBJECT_ID=patient, HADM_ID=stay, TEXT=text, **{**kind, **cells})

    def content(self, table: str) -> str:
        """A table as CSV."""
        sink = io.StringIO()
        writer = csv.DictWriter(sink, HEADERS[table].split(","), restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows[table])
        return sink.getvalue()

    def write(self, *tables: str, packed: bool = False) -> Path:
        """Write NOTEEVENTS and the tables; as they are published where `packed`."""
        for table in ("NOTEEVENTS", *tables):
            content = self.content(table).encode()
            if packed:
                (self.folder / f"{table}.csv.gz").write_bytes(gzip.compress(content))
            else:
                (self.folder / f"{table}.csv").write_bytes(content)
        return self.folder


@pytest.fixture
def mimic(tmp_path: Path) -> Mimic:
    """An empty one."""
    return Mimic(tmp_path)
