"""The exercises of the notebooks: for each a reference answer, cases that tell wrong answers from right ones, and how an answer is judged."""
