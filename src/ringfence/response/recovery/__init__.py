"""The way back: gates, each with its proof, between the end of the suspects and the end of the incident."""
