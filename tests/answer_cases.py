"""Answers in the formats of the public benchmarks, of our own writing: prompt, gold, answers and their verdicts."""

R, W, U = "correct", "wrong", "unjudged"

# How questions are written in the public files.
GARDEN = (
    "Solve the problem and output the answer in the format of \\boxed{your answer}.\\n Question: How big is the angle "
    "at the gate of the garden?\n<image1>\\n Options: A. $31^{\\circ}$, B. $47.5^{\\circ}$, C. $58^{\\circ}$, "
    "D. $64^{\\circ}$, E. $89.5^{\\circ}$"
)
DOOR = "Put the FINAL CHOICE in \\boxed{}. \\n Question: Is the barn door locked?\nOptions: (a) Locked (b) Unlocked\n"
LAMPS = (
    "Put the FINAL CHOICE inside \\boxed{}. \\n Question: How many lamp(s) are lit?\nOptions: (a) 3 (b) 4\n"
)
KITE = (
    "Where is the kite?\nOptions: A: The kite is over the lake., B: The kite is behind the mill., "
    "C: The kite is over the mill., D: A kite is not in the picture."
)
COW = "What stands out?\nOptions: A: A cow in a field, B: A barn with a red roof, C: Hay, D: nan"
SUM = (
    "Hint: Please answer the question and provide the correct option letter, e.g., A, B, C, D, at the end.\n"
    "Question: What do the jars hold in total?\nChoices:\n(A) 20.6\n(B) 26\n(C) 62.6\n(D) 60.2"
)
CHINESE = (
    "Hint: Please answer the question and provide the correct option letter, e.g., A, B, C, D, at the end.\n"
    "Question: 如图，点P在圆O上，∠P＝35°，则∠O的度数为（）\nChoices:\n(A) 35°\n(B) 70°\n(C) 105°\n(D) 140°"
)
RIVER = "Which river is this?\n\nOptions:\nA. Rhine\nB. the Upper Danube\nC. Elbe"
RATIO = "Which ratio do you expect?\n\nOptions:\nA. 1:5\nB. 5:1\nC. 3:3\nD. 0:6"
JARS = "Which jar is denser?\n\nOptions:\nA. Jar B\nB. Jar A\nC. neither; both are the same"
SALT = "Salt is ().\n\nOptions:\nA. an element\nB. a mineral"
PICTURE = (
    "Which choice fits the picture?\nOptions:\n(A) option C in the picture fits.\n(B) the answer is option A there\n"
    "(C) option B in the picture fits."
)
BALCONY = "Is there a fence?\nOptions: A: Yes, B: No, C: Cannot be determined, D: Not enough information"
CLAIM = "Is the claim right?\nOptions:\n(A) True\n(B) Not sure\n(C) False"
TUPLE = "Where is T?\nOptions:\nA. (-3,1)\nB. (-1,3)\nC. (1,-3)\nD. (3,1)"
SPAN = "Which interval holds x?\nOptions:\nA. [10,20]\nB. [20,30]\nC. [30,40]"
RANGE = "Which age group?\nChoices:\n(A) 1-5\n(B) 6-10\n(C) 11-15"
LETTERS = "Which tile is turned?\n<image1>\nOptions:\nA. A\nB. C\nC. F\nD. G\nE. H"
SAME = "Find the side.\nChoices:\n(A) 7\n(B) 14\n(C) 21\n(D) 21"
PERCENT = "What is the highest share?\nChoices:\n(A) 0.52%\n(B) 0.47%\n(C) 0.50%\n(D) 5.0%"
SHARE = "Find the loss.\nOptions:\nA. Less than $7.5 \\%$\nB. $7.5 \\%$\nC. More than $7.5 \\%$\nD. $15 \\%$"
ALGEBRA = "What is y in terms of m?\nChoices:\n(A) 90-m\n(B) m\n(C) 90+m\n(D) 90-2*m"
LADDER = "How long is the pole?\nChoices:\n(A) 2.50米\n(B) 3.00米\n(C) 3.20米"
ROMAN = (
    "Which?\nOptions:\nA. $\\textbf{I} \\text{only}$\nB. $\\textbf{II} \\text{only}$\n"
    "C. $\\textbf{I} \\text{and} \\textbf{II}$"
)
PARTS = "Which values fit?\nOptions:\nA. $p=8, q=2$\nB. $p=2, q=8$\nC. $p=5, q=5$"
ALL = "Which grow?\nOptions:\nA. moss\nB. fern\nC. all of these"
COLOURS = "Which colour pairs?\nOptions:\nA. 2 red, 3 blue\nB. 3 red, 2 blue\nC. none of these colours"
CROWD = "About how many came?\nOptions:\nA. 15{,}000\nB. 25{,}000\nC. 35{,}000"
FISH = "What happens to the fish?\nChoices:\n(A) decrease\n(B) nothing\n(C) increase\n(D) none of the above"
POINT = "Is there a ladder in the image?"
ASK = "Please answer yes or no, inside \\boxed{}. \\n Question: Is Norway the largest exporter?\n"
OPEN = "Solve the problem and output the answer in the format of \\boxed{your answer}.\\n Question: Find it.\n<image1>"
ONE_DECIMAL = (
    "Hint: Please answer the question requiring a floating-point number with one decimal place.\nQuestion: d?"
)
TWO_DECIMALS = "Hint: answer requiring a floating-point number with two decimal places.\nQuestion: mean?"
GRAMS = "Hint: Please answer the question requiring an integer answer.\nQuestion: How heavy? (Unit: g)"
LIST = "Hint: Please answer the question requiring a Python list as an answer.\nQuestion: Which years?"

CASES = [
    (
        GARDEN,
        "C. $58^{\\circ}$",
        {
            "\\boxed{C}": R,
            "\\boxed{c}": R,
            "\\boxed{(C)}": R,
            "\\boxed{\\text{C}}": R,
            "\\boxed{58^{\\circ}}": R,
            "\\boxed{58°}": R,
            "\\boxed{58}": R,
            "\\boxed{\\mathrm{(C)}\\ 58^\\circ}": R,
            "\\boxed{C. $58^{\\circ}$}": R,
            "\\boxed{\\textbf{(C) } 58^\\circ}": R,
            "C": R,
            "(C)": R,
            "C.": R,
            "**C**": R,
            "Answer: C": R,
            "**Answer:** C": R,
            "The answer is C.": R,
            "The correct option is C.": R,
            "The answer is (C) 58°.": R,
            "\\boxed{Option C}": R,
            "\\boxed{58 \\text{ degrees}}": R,
            "The angle is 58 degrees.": R,
            "\\boxed{Ｃ}": R,
            "<think>perhaps \\boxed{A}</think> \\boxed{C}": R,
            "<answer>C</answer>": R,
            "<think>hm</think><answer>so \\boxed{C}</answer>": R,
            "first \\boxed{B}, no, \\boxed{C}": R,
            "\\boxed{C} hm, rather \\boxed{D}": W,
            "\\boxed{B}": W,
            "\\boxed{5.8}": W,
            "\\boxed{158^{\\circ}}": W,
            "\\boxed{580}": W,
            "\\boxed{F}": W,
            "\\boxed{A, C}": W,
            "\\boxed{A or C}": W,
            "\\boxed{}": W,
            "": W,
            "<think>\\boxed{C}</think>": W,
            "<think>it must be C": W,
            "\\boxed{None}": W,
            "\\boxed{64°}": W,
            "I am sorry, I cannot see the image.": W,
            "I would need the picture for that.": W,
            "\\boxed{B. 58^\\circ}": W,
            "\\boxed{C. 64^\\circ}": W,  # letter and text contradict each other
            "The answer is not C.": W,
            "C is wrong, so it cannot be that.": U,
            "The points A, B and C form an angle.": U,
            "\\boxed{C": R,
            "\\boxed{58": W,  # cut off: a lone letter is whole, a number may have lost digits
            "C\n\nThe angle follows from the sum of the angles.": R,
        },
    ),
    (
        DOOR,
        "(a) Locked",
        {
            "\\boxed{(a) Locked}": R,
            "\\boxed{(a)}": R,
            "\\boxed{a}": R,
            "\\boxed{A}": R,
            "\\boxed{Locked}": R,
            "\\boxed{a) Locked}": R,
            "The barn door is locked.": R,
            "The door is not unlocked; it is locked.": R,
            "\\boxed{(b)}": W,
            "\\boxed{Unlocked}": W,
            "The door is not locked; it is unlocked.": W,
            "A barn stands on a hill and its door is unlocked.": W,
            "The answer is a barn.": W,
            "\\boxed{A barn}": W,
            "The door is locked, not unlocked.": R,
            "It is either locked or unlocked.": W,
            "\\boxed{(a) or (b)}": W,
            "I cannot tell whether it is locked.": W,
            "Someone forgot the key.": U,
            "\\boxed{(a) Unlocked}": W,
        },
    ),
    (
        LAMPS,
        "(a) 3",
        {
            "\\boxed{3}": R,
            "\\boxed{three}": R,
            "There are 3 lamps.": R,
            "There are three lamps lit.": R,
            "\\boxed{(a) 3}": R,
            "\\boxed{4}": W,
            "\\boxed{34}": W,
            "\\boxed{13}": W,
            "There are 13 lamps.": W,
            "\\boxed{s}": W,
            "\\boxed{3.0}": R,
        },
    ),
    (
        KITE,
        "C: The kite is over the mill.",
        {
            "\\boxed{C: The kite is over the mill.}": R,
            "The kite is over the mill.": R,
            "Answer: C": R,
            "In the picture the kite is over the mill.": R,
            "\\boxed{A}": W,
            "The kite is over the lake.": W,
            "A kite can be seen.": W,
            "\\boxed{A kite}": W,
            "C: The kite is over the lake.": W,
            "C. The kite is over the mill": R,
        },
    ),
    (
        COW,
        "A: A cow in a field",
        {
            "A cow in a field.": R,
            "\\boxed{A cow in a field}": R,
            "\\boxed{A}": R,
            "A barn with a red roof": W,
            "\\boxed{a barn with a red roof}": W,
            "Hay": W,
            "It shows a cow in a field": R,
        },
    ),
    (
        COW,
        "B: A barn with a red roof",
        {
            "A barn with a red roof": R,
            "\\boxed{A barn with a red roof}": R,
            "A cow in a field": W,
            "\\boxed{A}": W,
        },
    ),
    (
        SUM,
        "C",
        {
            "\\boxed{C}": R,
            "\\boxed{62.6}": R,
            "\\boxed{(C) 62.6}": R,
            "The answer is 62.6.": R,
            "\\boxed{62.60}": R,
            "So 40 + 22.6 = 62.6": R,
            "\\boxed{2.6}": W,
            "\\boxed{26}": W,
            "\\boxed{626}": W,
            "\\boxed{162.6}": W,
            "The total is 60.2.": W,
        },
    ),
    (
        CHINESE,
        "B",
        {
            "答案：B": R,
            "故选B。": R,
            "因此选 B": R,
            "∠O＝70°，故选B": R,
            "\\boxed{70°}": R,
            "70度": R,
            "答案为 70°": R,
            "故答案为：B": R,
            "所以答案是（B）": R,
            "故选D。": W,
            "\\boxed{7°}": W,
            "无法根据图片确定答案。": W,
            "答案：C": W,
            "点B在圆上": W,
        },
    ),
    (
        RIVER,
        "B. the Upper Danube",
        {
            "\\boxed{Upper Danube}": R,
            "This is the Upper Danube.": R,
            "B. the Upper Danube": R,
            "B the Upper Danube": R,
            "It is the Rhine, not the Upper Danube.": W,
            "It is the Upper Danube, not the Rhine.": R,
            "\\boxed{Elbe}": W,
            "The Rhine or the Upper Danube": W,
            "\\boxed{Danube}": U,
            "\\boxed{river}": W,
        },
    ),
    (
        RATIO,
        "B. 5:1",
        {
            "\\boxed{5:1}": R,
            "\\boxed{5 : 1}": R,
            "\\boxed{5 to 1}": R,
            "\\boxed{1:5}": W,
            "\\boxed{51}": W,
            "\\boxed{5}": W,
            "The ratio is 5:1.": R,
        },
    ),
    (RATIO, "D. 0:6", {"\\boxed{0:6}": R, "\\boxed{06}": W, "\\boxed{6:0}": W}),
    (
        JARS,
        "B. Jar A",
        {
            "\\boxed{Jar A}": R,
            "Jar A is denser.": R,
            "\\boxed{A}": W,
            "\\boxed{Jar B}": W,
            "\\boxed{B}": R,
            "\\boxed{jar a}": R,
        },
    ),
    (
        SALT,
        "B. a mineral",
        {
            "\\boxed{a mineral}": R,
            "Salt is a mineral.": R,
            "\\boxed{A}": W,
            "\\boxed{an element}": W,
            "A mineral": R,
        },
    ),
    (
        PICTURE,
        "B. the answer is option A there",
        {
            "\\boxed{B}": R,
            "\\boxed{A}": W,
            "the answer is option A there": R,
            "\\boxed{the answer is option A there}": R,
            "Therefore, the answer is B": R,
            "option C in the picture fits.": W,
        },
    ),
    (
        BALCONY,
        "B: No",
        {
            "\\boxed{B}": R,
            "No": R,
            "No, there is none.": R,
            "\\boxed{Yes}": W,
            "\\boxed{Not enough information}": W,
            "\\boxed{None}": W,
            "Cannot be determined": W,
        },
    ),
    (
        CLAIM,
        "A. True",
        {
            "\\boxed{True}": R,
            "It is true.": R,
            "\\boxed{Not sure}": W,
            "\\boxed{False}": W,
            "It is not true.": W,
        },
    ),
    (
        TUPLE,
        "C. (1,-3)",
        {
            "\\boxed{(1,-3)}": R,
            "\\boxed{(1, −3)}": R,
            "\\boxed{C. (1, -3)}": R,
            "\\boxed{T = (1,-3)}": R,
            "\\boxed{C}": R,
            "\\boxed{1}": W,
            "\\boxed{(-3,1)}": W,
            "\\boxed{(1,3)}": W,
            "The point is (1,-3).": R,
        },
    ),
    (
        SPAN,
        "B. [20,30]",
        {
            "\\boxed{[20,30]}": R,
            "\\boxed{[20, 30]}": R,
            "\\boxed{[10,20]}": W,
            "\\boxed{20}": W,
            "\\boxed{(20,30)}": W,
        },
    ),
    (
        RANGE,
        "B. 6-10",
        {
            "\\boxed{6-10}": R,
            "\\boxed{6–10}": R,
            "\\boxed{6 to 10}": R,
            "6-10 years": R,
            "\\boxed{-4}": W,
            "\\boxed{6}": W,
            "\\boxed{11-15}": W,
        },
    ),
    (
        LETTERS,
        "D. G",
        {
            "\\boxed{D}": R,
            "\\boxed{G}": R,
            "\\boxed{g}": R,
            "\\boxed{D. G}": R,
            "She must turn tile G.": R,
            "\\boxed{H}": W,
            "\\boxed{E}": W,
            "\\boxed{J}": W,
            "\\boxed{C}": W,  # the letter of F and the text of B: neither is the gold
        },
    ),
    (
        LETTERS,
        "B. C",
        {"\\boxed{C}": R, "\\boxed{B}": R, "\\boxed{A}": W},
    ),  # a letter or a text, as MathVision scores
    (SAME, "C. 21", {"\\boxed{D}": R, "\\boxed{C}": R, "\\boxed{21}": R, "\\boxed{1}": W, "\\boxed{14}": W}),
    (
        PERCENT,
        "C. 0.50%",
        {
            "\\boxed{0.5\\%}": R,
            "\\boxed{0.50}": R,
            "\\boxed{0.5}": R,
            "\\boxed{50\\%}": W,
            "\\boxed{5.0\\%}": W,
            "\\boxed{0.005}": U,  # the same share, but nobody writes it like this: for the judge
        },
    ),
    (
        SHARE,
        "B. $7.5 \\%$",
        {
            "\\boxed{7.5\\%}": R,
            "\\boxed{7.5%}": R,
            "\\boxed{7.5 \\text{ percent}}": R,
            "\\boxed{75\\%}": W,
            "\\boxed{.5\\%}": W,
            "\\boxed{\\text{More than } 7.5\\%}": W,
            "The loss is 7.5%.": R,
        },
    ),
    (
        ALGEBRA,
        "A. 90-m",
        {
            "\\boxed{-m+90}": R,
            "\\boxed{90 - m}": R,
            "\\boxed{y = 90-m}": R,
            "\\boxed{90^\\circ - m}": R,
            "\\boxed{m-90}": W,
            "\\boxed{90+m}": W,
            "\\boxed{m}": W,
            "\\boxed{90}": W,
        },
    ),
    (
        LADDER,
        "C. 3.20米",
        {
            "\\boxed{3.2}": R,
            "\\boxed{3.20 \\text{ m}}": R,
            "\\boxed{320 cm}": R,
            "\\boxed{3.20 cm}": W,
            "\\boxed{3.00米}": W,
        },
    ),
    (
        ROMAN,
        "C. $\\textbf{I} \\text{and} \\textbf{II}$",
        {
            "\\boxed{\\text{I and II}}": R,
            "\\boxed{I and II}": R,
            "\\boxed{I only}": W,
            "\\boxed{C}": R,
            "\\boxed{II only}": W,
        },
    ),
    (
        PARTS,
        "A. $p=8, q=2$",
        {
            "\\boxed{p=8, q=2}": R,
            "\\boxed{q=2, p=8}": R,
            "\\boxed{p=2, q=8}": W,
            "\\boxed{8, 2}": R,
            "\\boxed{p=8}": W,
        },
    ),
    (
        COLOURS,
        "A. 2 red, 3 blue",
        {
            "\\boxed{2 red, 3 blue}": R,
            "\\boxed{3 red, 2 blue}": W,
            "\\boxed{none of these colours}": W,
            "\\boxed{none}": U,
        },
    ),
    (
        ALL,
        "C. all of these",
        {
            "\\boxed{C}": R,
            "\\boxed{all of these}": R,
            "\\boxed{moss}": W,
            "\\boxed{A, B}": U,
        },
    ),
    (
        CROWD,
        "B. 25{,}000",
        {
            "\\boxed{25,000}": R,
            "\\boxed{25000}": R,
            "\\boxed{25\\,000}": R,
            "\\boxed{25 thousand}": R,
            "\\boxed{25}": W,
            "\\boxed{250,00}": W,
            "\\boxed{2500}": W,
        },
    ),
]
