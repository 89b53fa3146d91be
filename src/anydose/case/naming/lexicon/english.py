"""English spellings: TG-263 name (of a pair: its base; both together: the plural) -> phrases.

A phrase is lower case without accents; order of its words, separators and case of what is read do not matter.
TG-263's own names need no row. 'gland', 'volume' and the like may stand in any name and need no phrase.
"""

from __future__ import annotations

WORDS = {
    # head and neck
    "Parotid": "parotid, parotis, par gland, partd, prtd",
    "Parotids": "parotids, parotid glands, parotides",
    "Glnd_Submand": (
        "submandibular, submandibula, submand, submandib, submandibular gland, smg, subman, "
        "submandibularis, submn"
    ),
    "Glnd_Submands": "submandibulars, submandibular glands, submands, smgs",
    "Glnd_Subling": "sublingual, subling, sublingual gland",
    "Glnd_Sublings": "sublinguals, sublingual glands",
    "Glnd_Lacrimal": "lacrimal, lacrimal gland, lachrymal, lacrim, tear gland, lacrimale",
    "Glnd_Lacrimals": "lacrimals, lacrimal glands",
    "Glnd_Thyroid": "thyroid, thyroid gland, thyr",
    "Brainstem": "brainstem, brain stem, bstem, brain stm, brnstem, stem brain, truncus cerebri",
    "Brainstem_Core": "brainstem core, brain stem core, brainstem center, brainstem centre",
    "Brainstem_Surf": "brainstem surface, brain stem surface, brainstem surf",
    "SpinalCord": (
        "spinal cord, cord, spine cord, spcord, sp cord, spinl cord, spinalcrd, cord spinal, myelon, "
        "medulla spinalis, cord sp, spinal crd, scord, spinalcd"
    ),
    "SpinalCanal": (
        "spinal canal, spinalcan, vertebral canal, sp canal, canalis spinalis, spine canal, cord canal"
    ),
    "Esophagus": "esophagus, oesophagus, esoph, oesoph, eso, esophag, oesophag, esophagus all, gullet",
    "Esophagus_S": (
        "esophagus sup, upper esophagus, cervical esophagus, esophagus upper, oesophagus upper, "
        "esophagus cervical, cervical oesophagus"
    ),
    "Esophagus_M": "esophagus mid, esophagus middle",
    "Esophagus_I": "esophagus inf, esophagus lower, lower esophagus",
    "Larynx": "larynx, larynx glottis, glottic larynx, voice box, larynxs, lrynx",
    "Larynx_SG": (
        "supraglottis, supraglottic larynx, larynx supraglottic, supraglot, larynx sg, supraglottic"
    ),
    "Glottis": "glottis, glottic area",
    "Bone_Mandible": (
        "mandible, mandible bone, mand, lower jaw, jaw, mandib, mandibula, mandable, mandibles"
    ),
    "Cavity_Oral": (
        "oral cavity, oralcav, oral cav, ocavity, o cavity, mouth, oc, cavum oris, oral cvty, "
        "cav oral, oralcavity extended, extended oral cavity, oc ext"
    ),
    "OpticChiasm": (
        "optic chiasm, chiasm, opt chiasm, chiasma, chiasma opticum, optic chiasma, optchiasm, "
        "optic chi, chiasmopt, opticus chiasm, chiasma opt, optochiasm"
    ),
    "OpticNrv": (
        "optic nerve, opt nerve, opt nrv, optic nrv, on, nervus opticus, optic n, n opticus, "
        "opticnerv, opt n, nerve opt, opticus, optic nv, n opt, nrv optic, nerv optic, nervus opt, "
        "optn, optic nrve"
    ),
    "OpticNrvs": "optic nerves, opt nerves, optic nrvs, ons",
    "OpticTract": "optic tract, tractus opticus",
    "Eye": "eye, globe, eyeball, bulbus, bulbus oculi, eye ball, oculus, bulb eye",
    "Eyes": "eyes, globes, eyeballs, bulbi",
    "Lens": "lens, eye lens, crystalline lens, lns",
    "Lenses": "lenses, lens both, eye lenses",
    "Retina": "retina",
    "Cornea": "cornea",
    "Orbit": "orbit, orbita",
    "Orbits": "orbits",
    "Macula": "macula",
    "Conjunctiva": "conjunctiva",
    "Cochlea": "cochlea, coch, cochl, cochlear",
    "Cochleas": "cochleas, cochleae",
    "Ear_Internal": "inner ear, internal ear, ear inner, innerear, ear int",
    "Ear_Middle": "middle ear, ear mid, mid ear, middleear",
    "Ear_External": "outer ear, external ear, ear ext, pinna, external auditory canal",
    "VestibSemi": "vestibular semicircular canal, semicircular canals, vestibule",
    "BrachialPlex": (
        "brachial plexus, brach plexus, brachialplx, brach plex, brachial plex, plexus brachialis, "
        "brachial plx, bp, brachialplexus, brac plex, brac plexus, brachial px, brachial"
    ),
    "BrachialPlexs": "brachial plexuses, brachial plexi, both brachial plexus, brachial plexus total",
    "Musc_Constrict": (
        "pharyngeal constrictor, pharyngeal constrictors, constrictors, constrictor, phar const, "
        "pharynx const, pharynx constrictor, pharynx constrictors, pcm, constrictor muscle, "
        "constrictor muscles, pharyngeal constrictor muscle, pharyngeal constrictor muscles, "
        "pharyngealconst, musc constrictor, pharconstr, pharyngeal const, pharynx constr, "
        "phar constr, constrictor pharynx, constrict, pharyng const, muscle constrictor"
    ),
    "Musc_Constrict_S": (
        "superior constrictor, superior pharyngeal constrictor, constrictor sup, pcm sup, "
        "sup constrictor, superior pcm, pharyngeal constrictor superior, sup pharyngeal constrictor, "
        "sup pcm, constrict sup, pharynx const sup, pharynx constrictor sup, "
        "upper pcm, constrictor superior, const sup, pharyngeal constrictor sup"
    ),
    "Musc_Constrict_M": (
        "middle constrictor, middle pharyngeal constrictor, constrictor mid, pcm mid, middle pcm, "
        "mid constrictor, pharyngeal constrictor middle, mid pcm, constrict mid, constrictor m, "
        "pharynx const mid, mpc, pharynx constrictor mid, constrictor middle, const mid, "
        "pharyngeal constrictor mid"
    ),
    "Musc_Constrict_I": (
        "inferior constrictor, inferior pharyngeal constrictor, constrictor inf, pcm inf, "
        "inf constrictor, inferior pcm, pharyngeal constrictor inferior, inf pcm, constrict inf, "
        "constrictor i, pharynx const inf, ipc, pharynx constrictor inf, lower pcm, "
        "constrictor inferior, const inf, pharyngeal constrictor inf"
    ),
    "Pharynx": "pharynx",
    "Nasopharynx": "nasopharynx",
    "Oropharynx": "oropharynx",
    "Cricopharyngeus": "cricopharyngeus, crico inlet, cricopharyngeal inlet, cricopharyngeal, cricophar",
    "Cricoid": "cricoid, cricoid cartilage",
    "Cartlg_Thyroid": "thyroid cartilage",
    "Lips": "lips",
    "Lip_Lower": "lower lip",
    "Lip_Upper": "upper lip",
    "Tongue": "tongue",
    "Tongue_Base": "base of tongue, bot, base tongue, tongue base",
    "Tongue_Oral": "oral tongue",
    "Palate_Soft": "soft palate, softpalate",
    "Hardpalate": "hard palate, palate hard, hardpalate",
    "Tonsil": "tonsil, palatine tonsil, tonsilla",
    "Tonsils": "tonsils",
    "Teeth": "teeth, tooth",
    "Maxilla": "maxilla, upper jaw, maxillary bone",
    "Joint_TM": (
        "tmj, tmjoint, tm joint, temporomandibular joint, tmjt, temporomandibular, joint tmj, "
        "temporo mandibular joint, tempman joint"
    ),
    "Joint_TMs": "tmjs, tm joints, temporomandibular joints",
    "Musc_Masseter": "masseter, masseter muscle, musc masseter",
    "Musc_Masseters": "masseters",
    "Musc_Pterygoid": "pterygoid, pterygoid muscle",
    "Musc_Temporal": "temporalis, temporal muscle, temporalis muscle",
    "Musc_Sclmast": "sternocleidomastoid, scm, sternocleidomastoideus",
    "Pituitary": "pituitary, pituitary gland, hypophysis, pit, hypophys, pituitary gl, pitutary",
    "Hypothalamus": "hypothalamus, hypothalmus",
    "Hippocampus": "hippocampus, hippo, hippoc, hippocamp",
    "Hippocampi": "hippocampi, hippocampus both, hippos",
    "Lobe_Temporal": "temporal lobe, templobe, temp lobe, lobe temp, temporallobe, tl",
    "Lobe_Temporals": "temporal lobes, temp lobes",
    "Lobe_Frontal": "frontal lobe",
    "Lobe_Parietal": "parietal lobe",
    "Lobe_Occipital": "occipital lobe",
    "Hemisphere": "hemisphere, cerebral hemisphere",
    "Brain": "brain, encephalon, whole brain, brain total",
    "Cerebellum": "cerebellum, cerebel",
    "Cerebrum": "cerebrum",
    "Pons": "pons",
    "Pineal": "pineal, pineal gland",
    "Scalp": "scalp",
    "Skull": "skull, cranium",
    "Shoulder": "shoulder",
    "Shoulders": "shoulders",
    "PosteriorNeck": "posterior neck, postneck, post neck, neck post, neck posterior, nuchal",
    "A_Carotid": (
        "carotid, carotid artery, carotid a, art carotid, a carotid, carotis, acarotid, carotid art, "
        "internal carotid, internal carotid artery, arteria carotis, a carotis"
    ),
    "A_Carotids": "carotids, carotid arteries",
    "V_Jugular": "jugular, jugular vein, ijv, internal jugular vein",
    "Bone_Hyoid": "hyoid, hyoid bone",
    "Bone_Mastoid": "mastoid",
    "Bone_Temporal": "temporal bone",
    "Cavity_Nasal": "nasal cavity",
    "Sinus_Maxillary": "maxillary sinus, sinus maxillary",
    "Buccal_Mucosa": "buccal mucosa, buccalmucosa, buccal, cheek",
    "CribriformPlate": "cribriform plate",
    # thorax
    "Lung": "lung, lng, pulmo",
    "Lungs": (
        "lungs, lung total, total lung, lungs total, total lungs, lung all, whole lung, lungs both, "
        "lung both, pulmones, bilateral lungs, lung bilateral, lung bilat, lung combined, "
        "combined lungs, combined lung, lungs combined, lungs all, lung tot, bilat lungs, lng total"
    ),
    "Heart": "heart, cor, hrt, whole heart, heart total",
    "Pericardium": "pericardium, pericardial sac",
    "A_LAD": (
        "lad, lad artery, left anterior descending, left anterior descending artery, a lad, lada, "
        "lad coronary, lad art"
    ),
    "A_LCX": "lcx, left circumflex, circumflex artery",
    "A_Coronary": "coronary artery, coronary",
    "A_Coronaries": "coronary arteries, coronaries",
    "A_Aorta": "aorta, thoracic aorta",
    "A_Aorta_Asc": "ascending aorta, aorta asc",
    "A_Pulmonary": "pulmonary artery, pulm artery, pulmonary art",
    "V_Pulmonary": "pulmonary vein, pulmonary veins",
    "V_Venacava_S": "svc, superior vena cava, vena cava superior, vena cava sup, v cava sup",
    "V_Venacava_I": "ivc, inferior vena cava, vena cava inferior, vena cava inf, v cava inf",
    "GreatVes": "great vessels, great vessel, greatvess, gr vessels, great ves, major vessels",
    "Ventricle": "ventricle, heart ventricle, cardiac ventricle",
    "Ventricles": "heart ventricles",
    "Atrium": "atrium, heart atrium",
    "Trachea": "trachea, windpipe",
    "Carina": "carina",
    "Bronchus": "bronchus, main bronchus, mainstem bronchus, bronch, bronchi, bronchus main",
    "Chestwall": "chest wall, chwall, cw, cwall, chest w, chestw, thoracic wall",
    "Ribs": "ribs, rib",
    "Sternum": "sternum",
    "Clavicle": "clavicle, clavicula",
    "Scapula": "scapula",
    "Humerus": "humerus",
    "Humerus_Head": "humeral head, humerus head, head humerus, caput humeri",
    "Diaphragm": "diaphragm",
    "Mediastinum": "mediastinum",
    "Glnd_Thymus": "thymus",
    "Breast": "breast, mamma, whole breast",
    "Breasts": "breasts",
    "Nipple": "nipple",
    "Spc_Supraclav": "supraclav, supraclavicular, supraclavicular space",
    # abdomen
    "Liver": "liver, hepar, whole liver",
    "Kidney": "kidney, kid, ren, kdny, kidny, renal",
    "Kidneys": (
        "kidneys, total kidney, kidney total, kidneys total, both kidneys, total kidneys, "
        "kidney both, kidneys combined, bilateral kidneys, combined kidneys, kidneys both, renes"
    ),
    "Kidney_Cortex": "renal cortex, kidney cortex",
    "Kidney_Pelvis": "renal pelvis, kidney pelvis",
    "Spleen": "spleen, lien, splen",
    "Stomach": "stomach, stom, gaster",
    "Pancreas": "pancreas, panc",
    "Duodenum": "duodenum, duod, duo, duodenal",
    "Gallbladder": "gallbladder, gall bladder, gb",
    "BileDuct_Common": "common bile duct, cbd, bile duct",
    "Bowel": "bowel, bowels, intestine, intestines, gut, bowel total, whole bowel",
    "Bowel_Small": (
        "small bowel, sm bowel, bowel sm, smbowel, sbowel, small intestine, bowel small, smallbow, "
        "sb, small bwl, bowelsm, small bowels, intestine small, sml bowel"
    ),
    "Bowel_Large": (
        "large bowel, lg bowel, bowel lg, large intestine, lgbowel, bowel large, lbowel, intestine large"
    ),
    "Bag_Bowel": "bowel bag, bag bowel, bowelbag, bowl bag, peritoneal bag",
    "Spc_Bowel": "bowel space, space bowel, bowel cavity, bowelspace",
    "Jejunum": "jejunum",
    "Ileum": "ileum",
    "Cecum": "cecum, caecum, coecum",
    "Colon": "colon",
    "Colon_Sigmoid": (
        "sigmoid, sigmoid colon, colon sigmoid, sig, sigmoideum, sigma, sigm, colon sigmoideum"
    ),
    "Colon_Ascending": "ascending colon, colon asc",
    "Colon_Descending": "descending colon, colon desc",
    "Colon_Transverse": "transverse colon, colon trans",
    "Glnd_Adrenal": "adrenal, adrenal gland, suprarenal gland",
    "Glnd_Adrenals": "adrenals, adrenal glands",
    "Peritoneum": "peritoneum, peritoneal cavity",
    "V_Portal": "portal vein",
    "A_Celiac": "celiac artery, celiac trunk, celiac",
    "A_Mesenteric_S": "sma, superior mesenteric artery",
    "CaudaEquina": "cauda equina, cauda",
    "ThecalSac": "thecal sac",
    # pelvis
    "Bladder": (
        "bladder, urinary bladder, bldr, bladder o, blad, vesica, vesica urinaria, whole bladder, bladdr"
    ),
    "Bladder_Wall": "bladder wall, wall bladder",
    "Rectum": "rectum, rectum o, rect, rctm, whole rectum, rectum whole",
    "Rectum_Wall": "rectal wall, rectum wall, wall rectum",
    "Anus": "anus",
    "Canal_Anal": "anal canal, analcanal, canal anal, anorectal canal, canalis analis",
    "Femur_Head": (
        "femoral head, femur head, fem head, femhead, caput femoris, hip head, head femur, "
        "head of femur, fh, head of femoral, femoralhd, fem hd, femur hd, femoral hd, head fem, "
        "femoral head neck, caput femur, hd femur"
    ),
    "Femur_Heads": (
        "femoral heads, femur heads, fem heads, femheads, both femoral heads, heads femoral, "
        "bilateral femoral heads"
    ),
    "Femur_Neck": "femoral neck, femur neck",
    "Femur": "femur, proximal femur, prox femur, femur proximal, fem, femur prox",
    "Femurs": "femurs, femora, proximal femurs, femurs both",
    "Hip": "hip, hip joint",
    "Hips": "hips, hip joints",
    "Acetabulum": "acetabulum",
    "PenileBulb": (
        "penile bulb, bulb penile, penbulb, penilebulb, bulbus penis, pen bulb, penis bulb, "
        "bulb penis, bulb of penis"
    ),
    "Penis": "penis",
    "Prostate": "prostate, prostate gland, prost, prostata",
    "ProstateBed": "prostate bed, prostatic bed, prost bed, prostatic fossa",
    "SeminalVes": (
        "seminal vesicle, seminal vesicles, sv, svs, sem ves, semves, seminal ves, sem vesicle, "
        "seminals, sem vesicles, seminal vesic, vesicula seminalis, vesiculae seminales"
    ),
    "Urethra": "urethra",
    "Ureter": "ureter",
    "Ureters": "ureters",
    "Uterus": "uterus",
    "Cervix": "cervix, uterine cervix, cervix uteri",
    "Vagina": "vagina",
    "Vulva": "vulva",
    "Ovary": "ovary, ovarium",
    "Ovaries": "ovaries",
    "Testis": "testis, testicle",
    "Testes": "testes, testicles, testis both",
    "Scrotum": "scrotum",
    "Genitals": "genitals, genitalia, external genitalia, ext genitalia, genitalia ext",
    "Perineum": "perineum",
    "Parametrium": "parametrium",
    "Sacrum": "sacrum, os sacrum, sacral bone",
    "Bone_Pelvic": "pelvic bone, pelvic bones, bony pelvis, pelvis bone, pelvis",
    "Bone_Ilium": "ilium",
    "Bone_Ischium": "ischium",
    "Bone_Pubis": "pubis",
    "PubicSymphys": "pubic symphysis, symphysis, symphysis pubis",
    "BoneMarrow": "bone marrow, marrow",
    "BoneMarrow_Act": "active bone marrow, bone marrow active, bone marrow act",
    "A_Iliac": "iliac artery",
    # whole body and what the patient lies on
    "Skin": "skin",
    "External": (
        "external, body, patient, ext, extern, outer contour, body contour, external contour, "
        "possible dose mask, outline, patient outline, skin contour, body outline, contour body, "
        "patient contour, external outline, patient external, body external, outside contour, "
        "whole body, external body, outercontour"
    ),
    "CouchSurface": (
        "couch, couch surface, table, table top, tabletop, couch outer, couch top, "
        "couch outer shell, treatment couch, couch surf, exact couch, couch shell"
    ),
    "CouchInterior": "couch interior, couch inner, couch int, couch core",
    "Bolus": "bolus",
}
