"""Parity: our learner and model beside the predecessor's code on equal data."""
