"""A course made from the committed notebooks: handouts for students, assignments for nbgrader and Otter, updates of started work.

Nothing here is needed to read the notebooks: `python -m emorl_lite course` uses it, and whoever teaches.
"""
