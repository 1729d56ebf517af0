"""Argo CD, by its custom resources alone: they are the same where it runs beside the cluster's other controllers and
where a cloud runs it outside. Facts in, no policy."""
