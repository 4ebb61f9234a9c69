"""What runs inside an attempt's Batch job: ``stage``, then ``main`` beside ``agent``."""
