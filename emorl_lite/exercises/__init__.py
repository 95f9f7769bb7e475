"""The notebooks' exercises: a reference answer for each, cases that tell wrong answers from right ones, and how an answer is judged."""
