"""Tests of the eyes: the comparer, the case language, and a bounded differential run."""
