from anydose.case.case import Case as Case
from anydose.complete import Completion as Completion
from anydose.complete import complete as complete
from anydose.deliver.save import save as save
from anydose.evaluate import evaluate as evaluate
from anydose.evaluate import score as score
from anydose.io.read import read_case as read_case
from anydose.model.options import Options as Options
from anydose.predict import Prediction as Prediction
from anydose.predict import predict as predict

__version__: str
__all__: list[str]
