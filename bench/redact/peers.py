"""The peers: Presidio's pattern recognisers, detect-secrets, and Hyperscan with the patterns of both.

Each finds spans `(class, start, end)` of characters, in our names of classes. Presidio gets a blank tokenizer in place
of a language model and is asked for the five kinds of data that both know; the words around a find, which raise its
score, it gets in lower case, as a lemmatizer would give them. Hyperscan reports where the leftmost match starts and
checks nothing, so it has a speed and no quality.
"""

import logging
import re
import tempfile

import spacy
import tldextract
from detect_secrets.core.scan import scan_file
from detect_secrets.plugins.base import RegexBasedDetector
from detect_secrets.settings import default_settings
from detect_secrets.core.plugins.util import get_mapping_from_secret_type_to_class
from presidio_analyzer import AnalyzerEngine, RecognizerRegistry
from presidio_analyzer.nlp_engine import NlpArtifacts, NlpEngine

# the list of endings that comes with the package; the first look-up would fetch a newer one
tldextract.extract = tldextract.TLDExtract(suffix_list_urls=())

try:
    import hyperscan
except ImportError:
    hyperscan = None

ENTITIES = {
    "EMAIL_ADDRESS": "EMAIL", "PHONE_NUMBER": "PHONE", "CREDIT_CARD": "CARD", "IBAN_CODE": "IBAN",
    "IP_ADDRESS": "IP_ADDRESS",
}
PIECE = 2000  # characters of a text that Presidio gets at once, as a document or a message would be


class Blank(NlpEngine):
    """A tokenizer and nothing else."""

    def __init__(self):
        self.nlp = None

    def load(self):
        self.nlp = spacy.blank("en")

    def is_loaded(self):
        return self.nlp is not None

    def process_text(self, text, language):
        doc = self.nlp(text)
        words = [token.lower_ for token in doc]
        return NlpArtifacts(entities=[], tokens=doc, tokens_indices=[token.idx for token in doc], lemmas=words,
                            nlp_engine=self, language=language)

    def process_batch(self, texts, language, **_):
        return ((text, self.process_text(text, language)) for text in texts)

    def is_stopword(self, word, language):
        return self.nlp.vocab[word].is_stop

    def is_punct(self, word, language):
        return self.nlp.vocab[word].is_punct

    def get_supported_entities(self):
        return []

    def get_supported_languages(self):
        return ["en"]


class Presidio:
    name = "Presidio"

    def __init__(self):
        logging.getLogger("presidio-analyzer").setLevel(logging.ERROR)
        engine = Blank()
        engine.load()
        registry = RecognizerRegistry(supported_languages=["en"])
        registry.load_predefined_recognizers(languages=["en"], nlp_engine=engine)
        registry.remove_recognizer("SpacyRecognizer")
        self.analyzer = AnalyzerEngine(registry=registry, nlp_engine=engine, supported_languages=["en"])

    def find(self, text):
        found = self.analyzer.analyze(text, language="en", entities=list(ENTITIES))
        return [(ENTITIES[one.entity_type], one.start, one.end) for one in found]

    def scan(self, text):
        return sum(len(self.find(text[at : at + PIECE])) for at in range(0, len(text), PIECE))


class DetectSecrets:
    """It reads files; a text is written into one."""

    name = "detect-secrets"

    def secrets(self, text):
        with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8", newline="") as file, default_settings():
            file.write(text)
            file.flush()
            return list(scan_file(file.name))

    def find(self, text):
        spans, lines = [], text.splitlines(keepends=True)
        for secret in self.secrets(text):
            before = sum(len(line) for line in lines[: secret.line_number - 1])
            at = text.find(secret.secret_value or "\0", before)
            if at >= 0:
                spans.append(("SECRET", at, at + len(secret.secret_value)))
        return spans

    def scan(self, text):
        return len(self.secrets(text))


class Hyperscan:
    name = "Hyperscan"

    def __init__(self, presidio):
        patterns = peer_patterns(presidio)
        flags = hyperscan.HS_FLAG_SOM_LEFTMOST
        self.compiled = [(text, flags | more) for text, more in patterns if compiles(text, flags | more)]
        self.left_out = len(patterns) - len(self.compiled)
        self.database = database(self.compiled)

    def scan(self, text):
        """How many places a match starts at; a match has one event for every end it may have."""
        starts = set()

        def on_match(which, start, _end, _flags, _context):
            starts.add((which, start))

        self.database.scan(text.encode(), match_event_handler=on_match)
        return len(starts)


def database(compiled):
    made = hyperscan.Database()
    made.compile(
        expressions=[text.encode() for text, _ in compiled], ids=list(range(len(compiled))), elements=len(compiled),
        flags=[flags for _, flags in compiled],
    )
    return made


def compiles(text, flags):
    try:
        database([(text, flags)])
    except hyperscan.error:
        return False
    return True


def peer_patterns(presidio):
    """The regular expressions of both peers with their flags."""
    found = []
    for recognizer in presidio.analyzer.registry.recognizers:
        if set(recognizer.supported_entities) & set(ENTITIES):
            found += [(one.regex, hyperscan.HS_FLAG_CASELESS) for one in getattr(recognizer, "patterns", [])]
    with default_settings():
        for detector in get_mapping_from_secret_type_to_class().values():
            if issubclass(detector, RegexBasedDetector):
                for one in detector().denylist:
                    found.append((one.pattern, hyperscan.HS_FLAG_CASELESS if one.flags & re.IGNORECASE else 0))
    return found
