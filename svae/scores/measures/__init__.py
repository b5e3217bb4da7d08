"""The scores: each module is one. svae.scores.score says what it declares."""
