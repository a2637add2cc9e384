"""`understudy study`: named comparisons of learning."""
