"""Diagnosis: row differences, patterns, iterations in sprints, and the gate."""
