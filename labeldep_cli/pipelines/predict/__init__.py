"""`labeldep predict`: label images that belong to no data set, many at once or one request after the other."""

from labeldep_cli.pipelines.predict.copies import Copies
from labeldep_cli.pipelines.predict.paths import expand
from labeldep_cli.pipelines.predict.prediction import Prediction, record
from labeldep_cli.pipelines.predict.serve import complete, serve
from labeldep_cli.pipelines.predict.stream import predict

__all__ = ["Copies", "Prediction", "complete", "expand", "predict", "record", "serve"]
