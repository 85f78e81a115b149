"""The paper's wing: a recurrent network codes what the picture so far lacks."""
