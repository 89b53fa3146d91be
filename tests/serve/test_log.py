"""What a server writes down names no patient."""

import json
import logging

from anydose.serve.log import LONGEST, log_to, nameless


def test_a_sentence_loses_the_patient_and_the_place(tmp_path):
    said = nameless(
        f"{tmp_path}/in/CT.dcm: patient Doe^John\n(4711) has no CT, doe's study; John",
        words=["DOE^JOHN^^Dr", "4711", "19500101", ""],
        folders=[tmp_path],
    )
    assert said == "in/CT.dcm: patient [...]^[...] ([...]) has no CT, [...]'s study; [...]"
    assert nameless("4 slices of 2 mm", words=["4"]) == "4 slices of 2 mm"  # one digit names nobody
    assert len(nameless("a " * 9999)) == LONGEST


def test_a_log_is_json_is_rotated_and_keeps_no_words_of_an_exception(tmp_path):
    path = tmp_path / "log" / "node.jsonl"
    log_to(path, megabytes=0.002, keep=2)
    log = logging.getLogger("anydose.serve.test")
    try:
        try:
            raise ValueError("patient Doe^John")
        except ValueError:
            log.exception("study refused", extra={"about": {"job": "ab12"}})
        line = json.loads(path.read_text())
        assert line["message"] == "study refused" and line["job"] == "ab12" and line["level"] == "error"
        assert line["exception"] == "ValueError" and line["at"].startswith("test_log.py:")
        assert "Doe" not in path.read_text()
        for number in range(100):
            log.info("line %d", number)
        assert len(list(path.parent.iterdir())) == 3
    finally:
        logging.getLogger("anydose.serve").handlers.clear()
