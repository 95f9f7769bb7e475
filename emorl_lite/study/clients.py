"""Client statements written for this project, for tables of replies: real statements of third parties stay out of the repository."""

from __future__ import annotations

CLIENTS = (
    "My sister moved in three months ago and I can't get a minute to myself, but every time I try to say so I feel like a monster.",
    "I know I should stop smoking. I've known for ten years. Mornings are the worst, I reach for it before I'm even awake.",
    "They gave the position to someone I trained. I smiled and said congratulations and then cried in the car park.",
    "My dad doesn't recognise me any more and the rest of the family just carries on as if that were normal.",
    "I skipped my tablets again this week. They make me so tired that I can't play with the kids.",
    "Everyone says I should be proud of finishing, but honestly I just feel empty and I don't know what comes next.",
)
"""Six statements, on family, smoking, work, loss, medication and direction."""
